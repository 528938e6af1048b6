// Drives our fake of Discord with the platform's own client: what discord.js takes for Discord,
// our server may take for it. Arguments: discord.js, the API's address, the token, the guild.
import { createRequire } from "node:module";

const [library, api, token, guild] = process.argv.slice(2);
const { Client, GatewayIntentBits, Partials, REST, ActionRowBuilder, ButtonBuilder, ButtonStyle } =
  createRequire(import.meta.url)(library);
const tell = (what) => console.log(JSON.stringify(what));

const client = new Client({
  intents: [
    GatewayIntentBits.Guilds,
    GatewayIntentBits.GuildMessages,
    GatewayIntentBits.MessageContent,
  ],
  partials: [Partials.Channel],
  rest: { api },
  allowedMentions: { parse: [] },
});
client.on("error", (error) => tell({ error: String(error) }));
client.on("shardResume", (id, replayed) => tell({ resumed: replayed }));
client.on("clientReady", async () => {
  await client.application.commands.set([{ name: "od-list", description: "List" }], guild);
  tell({ ready: client.user.id });
});
client.on("messageCreate", async (message) => {
  if (message.author.bot) return;
  if (message.content === "burst") {
    const all = Array.from({ length: 9 }, (_, n) => message.channel.send(`burst ${n}`));
    return tell({ burst: (await Promise.all(all)).length });
  }
  if (message.reference) {
    const to = await message.fetchReference();
    const before = await message.channel.messages.fetch({ before: message.id, limit: 2 });
    return tell({ replied: to.content, type: message.type, before: before.map((it) => it.content) });
  }
  tell({ heard: message.content, from: message.author.username, files: message.attachments.size });
  const row = new ActionRowBuilder().addComponents(
    new ButtonBuilder().setCustomId("/od-list").setLabel("List").setStyle(ButtonStyle.Primary),
  );
  const sent = await message.channel.send({
    content: "first",
    components: [row],
    files: [{ attachment: Buffer.from("bytes"), name: "out.txt" }],
    nonce: "a-nonce",
    enforceNonce: true,
  });
  await sent.edit({ content: "second", components: [row] });
  const found = await message.channel.messages.fetch({ limit: 10 });
  tell({ sent: sent.id, found: found.size });
});
client.on("interactionCreate", async (interaction) => {
  if (interaction.isAutocomplete()) {
    await interaction.respond([{ name: "api", value: "api" }]);
  } else if (interaction.isButton()) {
    await interaction.deferUpdate();
    await interaction.followUp({ content: "pressed", flags: 64 });
  } else if (interaction.isChatInputCommand()) {
    await interaction.deferReply();
    await interaction.editReply("the answer");
  }
  tell({ interaction: interaction.type, id: interaction.id });
});
await client.login(token);
