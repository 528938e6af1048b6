// The official client as an app on the fake: it says what it understood, line by line.
import { createRequire } from "node:module";
const require = createRequire(process.env.BOLT_AT);
const { App, LogLevel } = require("@slack/bolt");

const app = new App({
  token: process.env.SLACK_BOT_TOKEN,
  appToken: process.env.SLACK_APP_TOKEN,
  socketMode: true,
  logLevel: LogLevel.ERROR,
  clientOptions: { slackApiUrl: process.env.SLACK_API_URL + "/" },
});
const tell = (what) => console.log(JSON.stringify(what));

app.event("app_mention", async ({ event, say }) => {
  const said = await say({ text: "…", metadata: { event_type: "t", event_payload: { nonce: "n1" } } });
  await app.client.chat.update({
    channel: event.channel, ts: said.ts, text: "done",
    blocks: [{ type: "actions", elements: [
      { type: "button", action_id: "go", value: "/od-list", text: { type: "plain_text", text: "Go" } },
    ] }],
  });
  const seen = await app.client.conversations.history({ channel: event.channel, include_all_metadata: true });
  const found = seen.messages.find((it) => it.metadata?.event_payload?.nonce === "n1");
  const thread = await app.client.conversations.replies({
    channel: event.channel, ts: event.ts, latest: said.ts, limit: 200,
  });
  const one = await app.client.conversations.history({
    channel: event.channel, latest: event.ts, oldest: event.ts, inclusive: true, limit: 1,
  });
  tell({
    mention: event.text, found: found?.ts === said.ts,
    thread: thread.messages.map((it) => it.text), one: one.messages.map((it) => it.ts === event.ts),
  });
});
app.command("/od-list", async ({ command, ack, respond }) => {
  await ack();
  await respond({ text: "only you", response_type: "ephemeral" });
  await app.client.chat.postEphemeral({ channel: command.channel_id, user: command.user_id, text: "psst" });
  tell({ command: command.command, text: command.text });
});
app.action("go", async ({ action, ack, body }) => {
  await ack();
  tell({ pressed: action.value, by: body.user.id });
});
app.message(/file/, async ({ message, client }) => {
  await client.filesUploadV2({ channel_id: message.channel, filename: "a.txt", content: "hello" });
  const info = await client.files.info({ file: message.files[0].id });
  const sent = await fetch(info.file.url_private_download, {
    headers: { authorization: `Bearer ${process.env.SLACK_BOT_TOKEN}` },
  });
  const seen = await client.conversations.history({ channel: message.channel });
  tell({
    shared: message.files?.[0]?.name, sent: await sent.text(),
    stands: seen.messages.flatMap((it) => it.files ?? []).map((it) => it.name),
  });
});
await app.start();
const who = await app.client.auth.test();
tell({ ready: who.user_id });
