// Holds our fake of Teams and our verdicts on its tokens against Microsoft's own packages.
//
// Standard input: {modules, appId, password, tenant, login, openid, serviceUrl, cases}, where a case
// is {name, header, activity}. Standard output: {verdicts: {name: "taken" | "refused"}, talk}.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const input = JSON.parse(readFileSync(0, "utf8"));
const require = createRequire(input.modules);
const connector = require("botframework-connector");
const { ConfigurationBotFrameworkAuthentication } = require("botbuilder");

const authentication = new ConfigurationBotFrameworkAuthentication({
  MicrosoftAppId: input.appId,
  MicrosoftAppPassword: input.password,
  MicrosoftAppTenantId: input.tenant,
  MicrosoftAppType: "SingleTenant",
  ToChannelFromBotLoginUrl: `${input.login}/${input.tenant}`,
  ToChannelFromBotOAuthScope: "https://api.botframework.com",
  ToBotFromChannelTokenIssuer: "https://api.botframework.com",
  OAuthUrl: "https://api.botframework.com",
  ToBotFromChannelOpenIdMetadataUrl: input.openid,
  ToBotFromEmulatorOpenIdMetadataUrl: input.openid,
  CallerId: "urn:botframework:azure",
});

const verdicts = {};
const why = {};
for (const { name, header, activity } of input.cases) {
  try {
    await authentication.authenticateRequest(activity, header ?? "");
    verdicts[name] = "taken";
  } catch (error) {
    verdicts[name] = "refused";
    why[name] = String(error.message).split("\n")[0];
  }
}

// Microsoft's client talks to the fake as a bot does: a token, a message, an edit.
const form = new URLSearchParams({
  grant_type: "client_credentials",
  client_id: input.appId,
  client_secret: input.password,
  scope: "https://api.botframework.com/.default",
});
const granted = await fetch(`${input.login}/${input.tenant}/oauth2/v2.0/token`, {
  method: "POST",
  body: form,
});
const { access_token: token } = await granted.json();
const credentials = {
  async signRequest(request) {
    request.headers.set("authorization", `Bearer ${token}`);
    return request;
  },
};
const client = new connector.ConnectorClient(credentials, { baseUri: input.serviceUrl });
const place = "19:certified@thread.v2";
const posted = await client.conversations.sendToConversation(place, {
  type: "message",
  text: "posted",
});
const edited = await client.conversations.updateActivity(place, posted.id, {
  type: "message",
  text: "edited",
});
process.stdout.write(JSON.stringify({ verdicts, why, posted: posted.id, edited: edited.id }));
