//! How times and sums of money are told to people.

use std::time::Duration;

/// A time as specs write it, such as `30m` or `1h30m`.
pub(super) fn span(time: Duration) -> String {
    const UNITS: [(&str, u128); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
    let mut rest = time.as_millis();
    if rest == 0 {
        return "0s".into();
    }
    let mut text = String::new();
    for (unit, millis) in UNITS {
        if rest >= millis {
            text.push_str(&format!("{}{unit}", rest / millis));
            rest %= millis;
        }
    }
    text
}

/// Millionths of a US dollar, as a price: cents, and more places only where there is less.
pub(super) fn money(micro_usd: u64) -> String {
    let (dollars, rest) = (micro_usd / 1_000_000, micro_usd % 1_000_000);
    if rest == 0 {
        return format!("${dollars}");
    }
    let places = format!("{rest:06}");
    let kept = places.trim_end_matches('0').len().max(2);
    format!("${dollars}.{}", &places[..kept])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_prices_are_told_as_people_write_them() {
        let told = |ms| span(Duration::from_millis(ms));
        assert_eq!([told(1_800_000), told(5_400_000)], ["30m", "1h30m"]);
        assert_eq!([told(45_000), told(1_500), told(0)], ["45s", "1s500ms", "0s"]);
        assert_eq!([money(5_000_000), money(320_000)], ["$5", "$0.32"]);
        assert_eq!([money(1_500_000), money(400), money(0)], ["$1.50", "$0.0004", "$0"]);
    }
}
