//! Whether an activity comes from the channel: what its token must claim. Pure.
//!
//! The rules are the Bot Framework's for a bot that the channel calls: the token is the
//! channel's, for this app, at this time, for the very service URL that the activity wants its
//! answers at, and signed with a key that is endorsed for the activity's channel. Beyond them, the
//! activity must come from the one tenant that is served.

use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;

use super::activity::Activity;
use crate::ambient;

/// How far clocks may differ.
pub const SKEW: Duration = Duration::from_secs(5 * 60);
/// The only channel that is served.
pub const CHANNEL: &str = "msteams";

/// What a token claims.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Claims {
    /// Who made it.
    pub iss: Option<String>,
    /// Whom it is for.
    pub aud: Option<String>,
    /// Until when it holds, in seconds since 1970.
    pub exp: Option<i64>,
    /// From when on it holds, in seconds since 1970.
    pub nbf: Option<i64>,
    /// Where answers go. `serviceUrl` is how older documents write it.
    #[serde(alias = "serviceUrl")]
    pub serviceurl: Option<String>,
}

/// Whom a token must be for and from.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// Who makes tokens.
    pub issuer: &'a str,
    /// Our app's id.
    pub app_id: &'a str,
    /// The only tenant.
    pub tenant: &'a str,
}

/// Why an activity is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// There is no token.
    #[error("it bears no token")]
    NoToken,
    /// It is no JSON Web Token.
    #[error("its token is no JSON Web Token")]
    NotAToken,
    /// It is signed otherwise.
    #[error("its token is not signed with RS256")]
    Algorithm,
    /// Its header names rules that whoever takes it must know, and none is known here (RFC 7515,
    /// 4.1.11).
    #[error("its token asks for rules that are not known (crit)")]
    Critical,
    /// It does not say with which key, or with one that the channel does not have.
    #[error("its token is signed with a key that the channel does not name")]
    NoKey,
    /// Another key signed it.
    #[error("its token's signature is wrong")]
    Signature,
    /// Somebody else made it.
    #[error("its token is of another issuer")]
    Issuer,
    /// It is for somebody else.
    #[error("its token is for another app; compare MICROSOFT_APP_ID with the Azure Bot's")]
    Audience,
    /// Its time is over.
    #[error("its token has expired; is this machine's clock right?")]
    Expired,
    /// Its time has not come.
    #[error("its token does not hold yet; is this machine's clock right?")]
    Early,
    /// It is for another service.
    #[error("its token is for another service URL")]
    ServiceUrl,
    /// Its key must not sign for this channel.
    #[error("its token's key is not endorsed for the channel")]
    Endorsement,
    /// Another channel than Teams.
    #[error("it comes from another channel than Teams")]
    Channel,
    /// Another tenant, or none.
    #[error("it comes from another tenant than MICROSOFT_APP_TENANT_ID")]
    Tenant,
}

impl Refusal {
    /// Whether whoever asks is known, and only not allowed.
    #[must_use]
    pub fn is_forbidden(self) -> bool {
        matches!(self, Self::Channel | Self::Tenant)
    }
}

/// The token in an `Authorization` header.
///
/// # Errors
/// There is none.
pub fn bearer(header: Option<&str>) -> Result<&str, Refusal> {
    let (scheme, token) = header.and_then(|it| it.split_once(' ')).ok_or(Refusal::NoToken)?;
    let token = token.trim();
    if scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() {
        Ok(token)
    } else {
        Err(Refusal::NoToken)
    }
}

/// Whether what a token claims makes it the channel's, for us, at this time.
///
/// # Errors
/// The first rule that it breaks.
pub fn judge(claims: &Claims, expected: Expected<'_>, now: Timestamp) -> Result<(), Refusal> {
    let time = |seconds: Option<i64>| seconds.and_then(|at| Timestamp::from_second(at).ok());
    if claims.iss.as_deref() != Some(expected.issuer) {
        return Err(Refusal::Issuer);
    }
    if !claims.aud.as_deref().is_some_and(|aud| aud.eq_ignore_ascii_case(expected.app_id)) {
        return Err(Refusal::Audience);
    }
    match time(claims.exp) {
        Some(end) if now <= ambient::later(end, SKEW) => {}
        _ => return Err(Refusal::Expired),
    }
    match claims.nbf {
        None => Ok(()),
        Some(_) if time(claims.nbf).is_some_and(|from| ambient::later(now, SKEW) >= from) => Ok(()),
        Some(_) => Err(Refusal::Early),
    }
}

/// Whether a token that is the channel's covers this activity.
///
/// # Errors
/// The first rule that it breaks.
pub fn covers(
    claims: &Claims,
    endorsements: &[String],
    activity: &Activity,
    expected: Expected<'_>,
) -> Result<(), Refusal> {
    let bare = |url: &str| url.trim_end_matches('/').to_owned();
    let claimed = claims.serviceurl.as_deref().map(bare).filter(|url| !url.is_empty());
    if claimed.is_none_or(|claimed| claimed != bare(&activity.service_url)) {
        return Err(Refusal::ServiceUrl);
    }
    if !endorsements.contains(&activity.channel_id) {
        return Err(Refusal::Endorsement);
    }
    if activity.channel_id != CHANNEL {
        return Err(Refusal::Channel);
    }
    let mut tenants = activity.tenants().peekable();
    let named = tenants.peek().is_some();
    if !named || !tenants.all(|tenant| tenant.eq_ignore_ascii_case(expected.tenant)) {
        return Err(Refusal::Tenant);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const EXPECTED: Expected<'static> =
        Expected { issuer: "https://api.botframework.com", app_id: "app", tenant: "ours" };
    const NOW: i64 = 1_800_000_000;
    const URL: &str = "https://smba.trafficmanager.net/amer/";

    fn claims() -> Claims {
        Claims {
            iss: Some(EXPECTED.issuer.to_owned()),
            aud: Some("app".to_owned()),
            exp: Some(NOW + 3600),
            nbf: Some(NOW - 60),
            serviceurl: Some(URL.to_owned()),
        }
    }

    fn judged(change: impl FnOnce(&mut Claims)) -> Result<(), Refusal> {
        let mut claims = claims();
        change(&mut claims);
        judge(&claims, EXPECTED, Timestamp::from_second(NOW).unwrap())
    }

    #[test]
    fn only_the_channels_token_for_us_at_this_time_is_taken() {
        assert_eq!(judged(|_| {}), Ok(()));
        assert_eq!(judged(|it| it.iss = None), Err(Refusal::Issuer));
        let other = "https://sts.windows.net/ours/";
        assert_eq!(judged(|it| it.iss = Some(other.into())), Err(Refusal::Issuer));
        assert_eq!(judged(|it| it.aud = None), Err(Refusal::Audience));
        assert_eq!(judged(|it| it.aud = Some("other".into())), Err(Refusal::Audience));
        // Clocks may differ by five minutes, and by no more.
        assert_eq!(judged(|it| it.exp = Some(NOW - 4 * 60)), Ok(()));
        assert_eq!(judged(|it| it.exp = Some(NOW - 6 * 60)), Err(Refusal::Expired));
        assert_eq!(judged(|it| it.exp = None), Err(Refusal::Expired));
        assert_eq!(judged(|it| it.exp = Some(i64::MIN)), Err(Refusal::Expired));
        assert_eq!(judged(|it| it.nbf = Some(NOW + 4 * 60)), Ok(()));
        assert_eq!(judged(|it| it.nbf = Some(NOW + 6 * 60)), Err(Refusal::Early));
        assert_eq!(judged(|it| it.nbf = Some(i64::MAX)), Err(Refusal::Early));
        assert_eq!(judged(|it| it.nbf = None), Ok(()));
    }

    fn covered(
        claimed: Option<&str>,
        endorsed: &[&str],
        change: serde_json::Value,
    ) -> Result<(), Refusal> {
        let mut activity = json!({
            "serviceUrl": URL,
            "channelId": "msteams",
            "conversation": {"tenantId": "ours"},
            "channelData": {"tenant": {"id": "OURS"}},
        });
        for (name, value) in change.as_object().unwrap() {
            activity[name] = value.clone();
        }
        let claims = Claims { serviceurl: claimed.map(str::to_owned), ..claims() };
        let endorsed: Vec<String> = endorsed.iter().map(|&it| it.to_owned()).collect();
        covers(&claims, &endorsed, &serde_json::from_value(activity).unwrap(), EXPECTED)
    }

    #[test]
    fn a_token_covers_its_own_service_channel_and_tenant_alone() {
        let both: &[&str] = &["msteams", "webchat"];
        assert_eq!(covered(Some(URL), both, json!({})), Ok(()));
        let bare = "https://smba.trafficmanager.net/amer";
        assert_eq!(covered(Some(bare), both, json!({})), Ok(()));
        assert_eq!(covered(None, both, json!({})), Err(Refusal::ServiceUrl));
        let other = Some("https://smba.trafficmanager.net/emea/");
        assert_eq!(covered(other, both, json!({})), Err(Refusal::ServiceUrl));
        assert_eq!(covered(Some(""), both, json!({"serviceUrl": ""})), Err(Refusal::ServiceUrl));
        assert_eq!(covered(Some(URL), &["webchat"], json!({})), Err(Refusal::Endorsement));
        assert_eq!(covered(Some(URL), &[], json!({})), Err(Refusal::Endorsement));
        let webchat = json!({"channelId": "webchat"});
        assert_eq!(covered(Some(URL), both, webchat), Err(Refusal::Channel));
        let stranger = json!({"channelData": {"tenant": {"id": "theirs"}}});
        assert_eq!(covered(Some(URL), both, stranger), Err(Refusal::Tenant));
        let nobody = json!({"channelData": {}, "conversation": {}});
        assert_eq!(covered(Some(URL), both, nobody), Err(Refusal::Tenant));
    }

    #[test]
    fn a_token_is_read_from_a_bearer_header_alone() {
        assert_eq!(bearer(Some("Bearer abc")), Ok("abc"));
        assert_eq!(bearer(Some("bearer abc ")), Ok("abc"));
        for header in [None, Some(""), Some("Bearer"), Some("Bearer "), Some("Basic abc")] {
            assert_eq!(bearer(header), Err(Refusal::NoToken), "{header:?}");
        }
    }
}
