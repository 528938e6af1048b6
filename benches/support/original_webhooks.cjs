// Starts the webhook server of a checkout of the original, with as many jobs as are asked for.
// Usage: node original_webhooks.cjs DIR JOBS. Prints the port when it listens.
const [dir, count] = process.argv.slice(2);
const path = require("node:path");
const { Job } = require(path.resolve(dir, "src/job.js"));
const { createWebhookServer } = require(path.resolve(dir, "src/webhook-server.js"));

const jobs = new Map();
for (let n = 0; n < Number(count); n++) {
  const job = new Job({ jobId: `bench-${n}`, jobToken: `token-${n}`, command: "true", channelId: "c" });
  job.start("machine");
  jobs.set(job.jobId, job);
}
// It says where it listens in its own words; ours are on the line below.
console.log = () => {};
const { server, start } = createWebhookServer({ jobs, port: 0 });
start().then(() => process.stdout.write(`${server.address().port}\n`));
process.stdin.on("end", () => process.exit(0)).resume();
