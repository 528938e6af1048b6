//! Which words go into the `Authorization` header.
//!
//! What `fly tokens create` prints begins with `FlyV1 fm2_…`; what people keep in environments has
//! `Bearer` before it, or both, or nothing. A macaroon goes with the scheme `FlyV1`, with its
//! discharges behind it, between commas; an OAuth token goes with `Bearer`; and where there are
//! macaroons, only they may go to the Machines API. (Fly's own Go client does the same.)

use secrecy::{ExposeSecret as _, SecretString};

use super::errors::ApiError;

/// How a macaroon begins.
const MACAROONS: [&str; 3] = ["fm1r_", "fm1a_", "fm2_"];
/// The schemes that stand before tokens.
const SCHEMES: [&str; 2] = ["bearer", "flyv1"];

/// The value of the header for a token, in whatever form it was kept.
///
/// # Errors
/// There is no token in it, or one that cannot stand in a header. The text says nothing of it.
pub(super) fn authorization(token: &SecretString) -> Result<SecretString, ApiError> {
    let parts: Vec<&str> =
        token.expose_secret().split(',').map(bare).filter(|part| !part.is_empty()).collect();
    if parts.is_empty() {
        return Err(ApiError::Setup(
            "FLY_API_TOKEN holds no token; set it to what `fly tokens create deploy -a APP` prints"
                .into(),
        ));
    }
    if parts.iter().any(|part| !part.bytes().all(|byte| byte.is_ascii_graphic())) {
        return Err(ApiError::Setup(
            "FLY_API_TOKEN holds a blank or a sign that no token has; set it to what `fly tokens create deploy -a APP` prints, on one line".into(),
        ));
    }
    let is_macaroon = |part: &&str| MACAROONS.iter().any(|start| part.starts_with(start));
    let macaroons: Vec<&str> = parts.iter().copied().filter(is_macaroon).collect();
    let value = match macaroons.as_slice() {
        [] => format!("Bearer {}", parts[0]),
        macaroons => format!("FlyV1 {}", macaroons.join(",")),
    };
    Ok(value.into())
}

/// A token without the schemes before it.
fn bare(token: &str) -> &str {
    let mut token = token.trim();
    while let Some((word, rest)) = token.split_once(char::is_whitespace) {
        if !SCHEMES.iter().any(|scheme| word.eq_ignore_ascii_case(scheme)) {
            break;
        }
        token = rest.trim_start();
    }
    // A scheme with nothing behind it.
    match SCHEMES.iter().any(|scheme| token.eq_ignore_ascii_case(scheme)) {
        true => "",
        false => token,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(token: &str) -> Result<String, String> {
        authorization(&token.into())
            .map(|value| value.expose_secret().to_owned())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn exactly_one_scheme_stands_before_a_token_however_it_was_kept() {
        for (token, value) in [
            ("fm2_abc", "FlyV1 fm2_abc"),
            ("FlyV1 fm2_abc", "FlyV1 fm2_abc"),
            ("  flyv1   fm2_abc\n", "FlyV1 fm2_abc"),
            ("Bearer FlyV1 fm2_abc", "FlyV1 fm2_abc"),
            ("BEARER bearer fm1r_x", "FlyV1 fm1r_x"),
            ("FlyV1 fm2_a,fm2_b,fm1a_c", "FlyV1 fm2_a,fm2_b,fm1a_c"),
            ("FlyV1 fm2_a, FlyV1 fm2_b", "FlyV1 fm2_a,fm2_b"),
            ("gho_oauth", "Bearer gho_oauth"),
            ("Bearer gho_oauth", "Bearer gho_oauth"),
            // Where there are macaroons, only they go.
            ("gho_oauth,fm2_a", "FlyV1 fm2_a"),
            ("fm2_with=/+signs==", "FlyV1 fm2_with=/+signs=="),
        ] {
            assert_eq!(header(token).as_deref(), Ok(value), "{token:?}");
        }
    }

    #[test]
    fn what_is_no_token_is_refused_and_not_repeated() {
        for token in ["", "  ", "Bearer", "FlyV1 ", ",,", "fm2_a b", "fm2_ä", "x\u{7}y"] {
            let error = header(token).unwrap_err();
            assert!(error.starts_with("FLY_API_TOKEN holds"), "{error}");
            assert!(!error.contains("fm2_"), "{error}");
        }
    }
}
