// The channel, played by Microsoft's own packages: the client that posts activities to a bot, and
// the service that a bot's answers go to.
//
// Standard output, first line: {serviceUrl}. Standard input, one line: {bot, token, bearer,
// activities}, where bearer is what the bot must show. Standard output, second line: {answers,
// shown, refused}, once each conversation shows a message that is no placeholder.
import { createRequire } from "node:module";
import { createServer } from "node:http";
import { createInterface } from "node:readline";

const require = createRequire(process.argv[2]);
const {
  ChannelServiceHandlerBase,
  ChannelServiceRoutes,
  ConfigurationBotFrameworkAuthentication,
} = require("botbuilder");
const { ClaimsIdentity } = require("botframework-connector");

// Nobody waits longer.
setTimeout(() => process.exit(1), 60_000).unref();
const shown = new Map();
const refused = [];
let bearer;
let number = 0;

class Channel extends ChannelServiceHandlerBase {
  async authenticate(header) {
    if (header !== `Bearer ${bearer}`) {
      refused.push(header);
      throw new Error("another bearer");
    }
    return new ClaimsIdentity([], true);
  }
  async onSendToConversation(_claims, conversation, activity) {
    const mark = (activity.entities ?? []).find((entity) => entity.type === "streaminfo");
    const id = mark?.streamId ?? `m${++number}`;
    const before = shown.get(id) ?? { conversation, kinds: [] };
    const kind = mark?.streamType ?? activity.type;
    const { text, from, replyToId } = activity;
    const kinds = [...before.kinds, kind];
    shown.set(id, { replyToId, ...before, id, text, from: from?.id, kinds });
    return { id };
  }
  async onReplyToActivity(claims, conversation, _id, activity) {
    return this.onSendToConversation(claims, conversation, activity);
  }
  async onUpdateActivity(_claims, _conversation, id, activity) {
    const before = shown.get(id);
    if (before === undefined) throw new Error(`no activity ${id}`);
    shown.set(id, { ...before, text: activity.text, kinds: [...before.kinds, "edit"] });
    return { id };
  }
}

// As much of a web server as the routes ask for.
const routes = [];
const on = (method) => (path, handler) => {
  const pattern = new RegExp(`^${path.replace(/:(\w+)/g, "(?<$1>[^/]+)")}$`);
  routes.push({ method, pattern, handler });
};
const router = { post: on("POST"), put: on("PUT"), get: on("GET"), delete: on("DELETE") };
new ChannelServiceRoutes(new Channel()).register(router, "/connector");
const server = createServer((request, response) => {
  const path = new URL(request.url, "http://localhost").pathname;
  for (const { method, pattern, handler } of routes) {
    const found = method === request.method && pattern.exec(path);
    if (!found) continue;
    const named = Object.entries(found.groups ?? {});
    request.params = Object.fromEntries(named.map(([k, v]) => [k, decodeURIComponent(v)]));
    response.status = (code) => ((response.statusCode = code), response);
    response.send = (body) => {
      response.setHeader("content-type", "application/json");
      response.write(JSON.stringify(body));
    };
    handler(request, response, () => {});
    return;
  }
  response.statusCode = 404;
  response.end();
});
await new Promise((done) => server.listen(0, "127.0.0.1", done));
const serviceUrl = `http://127.0.0.1:${server.address().port}/connector/`;
process.stdout.write(`${JSON.stringify({ serviceUrl })}\n`);

const [line] = await new Promise((done) => {
  createInterface({ input: process.stdin }).once("line", (...line) => done(line));
});
const input = JSON.parse(line);
bearer = input.bearer;
const credentials = {
  async signRequest(request) {
    request.headers.set("authorization", `Bearer ${input.token}`);
    return request;
  },
};
const factory = {
  createCredentials: async () => credentials,
  isAuthenticationDisabled: async () => false,
  isValidAppId: async () => true,
};
const client = new ConfigurationBotFrameworkAuthentication({}, factory).createBotFrameworkClient();
const answers = [];
for (const activity of input.activities) {
  const place = activity.conversation.id;
  const answer = await client.postActivity("channel", "bot", input.bot, serviceUrl, place, activity);
  answers.push({ type: activity.type, status: answer.status });
}
const places = input.activities.filter((it) => it.type === "message").map((it) => it.conversation.id);
const whole = (place) =>
  [...shown.values()].some(
    ({ conversation, text, kinds }) =>
      conversation === place && text !== "…" && ["final", "edit"].includes(kinds.at(-1)),
  );
while (!places.every(whole)) await new Promise((done) => setTimeout(done, 20));
const told = { answers, shown: [...shown.values()], refused };
process.stdout.write(`${JSON.stringify(told)}\n`, () => process.exit(0));
