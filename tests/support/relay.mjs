// Speaks as a relay that is a Node program does: twenty lines in a post, one connection that
// stays open, then the status. Where a COMMAND runs, it brings that one's lines from standard
// input, and whoever runs it tells the status.
import http from "node:http";
import { createInterface } from "node:readline";

const { COMMAND, JOB_ID, JOB_TOKEN, OPEN_DISPATCH_URL, LINES_TO_PRINT } = process.env;
const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });

function say(path, body) {
  const payload = JSON.stringify({ jobId: JOB_ID, ...body });
  return new Promise((resolve, reject) => {
    const request = http.request(
      new URL(`/webhooks/${path}`, OPEN_DISPATCH_URL),
      {
        method: "POST",
        agent,
        headers: {
          Authorization: `Bearer ${JOB_TOKEN}`,
          "Content-Length": Buffer.byteLength(payload),
        },
      },
      (response) => {
        response.resume();
        response.on("end", () =>
          response.statusCode === 200 ? resolve() : reject(new Error(`${path}: ${response.statusCode}`)),
        );
      },
    );
    request.on("error", reject);
    request.end(payload);
  });
}

if (COMMAND) {
  let held = [];
  const bring = () => say("logs", { text: held.splice(0).join("\n") });
  for await (const line of createInterface({ input: process.stdin })) {
    if (held.push(line) === 20) await bring();
  }
  if (held.length > 0) await bring();
} else {
  const lines = Array.from({ length: Number(LINES_TO_PRINT) }, (_, n) => `line ${n + 1} ✓ "quoted"`);
  const posts = [say("status", { status: "running", exitCode: 0, error: "" })];
  for (let n = 0; n < lines.length; n += 20) {
    posts.push(say("logs", { text: lines.slice(n, n + 20).join("\n") }));
  }
  await Promise.all(posts);
  await say("status", { status: "failed", exitCode: 3, error: "Agent exited with code 3" });
}
agent.destroy();
