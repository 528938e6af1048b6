//! What machines and volumes cost, about: for a warning, never for a bill.
//!
//! Fly publishes its prices as a page that is drawn from data, by region, and changes them; there is
//! no call that tells them. The figures here are of the cheapest region, as of 2026-06: about $2.02
//! for the smallest machine (one shared CPU with 256 MB) over 30 days, $5 for each GB of memory
//! beyond what comes with the CPUs, $0.15 for a GB on disk. What a performance CPU or a graphics card
//! costs is not known here: a machine that has one is priced as if it had shared CPUs, which is less,
//! and whoever says so says "at least" ([`is_least`]).

use std::time::Duration;

use super::api::{Guest, Machine, MachineState};

/// Millionths of a dollar.
pub type Micros = u64;

/// Hours in the 30 days for which prices are told.
const HOURS: Micros = 30 * 24;
/// One shared CPU with 256 MB, for 30 days.
const SHARED: Micros = 2_020_000;
/// One GB of memory beyond what comes with the CPUs, for 30 days.
const MEMORY: Micros = 5_000_000;
/// One GB on disk, for 30 days.
const DISK: Micros = 150_000;
/// What the image of a stopped machine is taken to need, in GB: Fly does not tell it.
const IMAGE_GB: Micros = 1;

/// A machine for an hour: the whole of it while it may run, else its root file system.
#[must_use]
pub fn machine(machine: &Machine) -> Micros {
    let is_still = matches!(
        machine.state,
        MachineState::Stopped | MachineState::Suspended | MachineState::Failed
    );
    match machine.guest() {
        _ if machine.state == MachineState::Destroyed => 0,
        _ if is_still => IMAGE_GB * DISK / HOURS,
        Some(it) => guest(it),
        None => guest(&Guest { cpus: 1, memory_mb: 256, ..Guest::default() }),
    }
}

/// A machine of this size for an hour, while it runs.
#[must_use]
pub fn guest(guest: &Guest) -> Micros {
    let cpus = Micros::from(guest.cpus.max(1));
    let beyond = Micros::from(guest.memory_mb).saturating_sub(cpus * 256);
    (cpus * SHARED + beyond * MEMORY / 1024) / HOURS
}

/// Whether a machine of this size costs more than [`guest`] says, by how much nobody knows here.
#[must_use]
pub fn is_least(guest: &Guest) -> bool {
    !matches!(guest.cpu_kind.as_str(), "shared" | "") || guest.gpu_kind.is_some()
}

/// A volume of this size for an hour, whether or not a machine has it.
#[must_use]
pub fn volume(size_gb: u32) -> Micros {
    Micros::from(size_gb) * DISK / HOURS
}

/// What something costs that costs so much in an hour.
#[must_use]
pub fn over(hourly: Micros, length: Duration) -> Micros {
    let micros = u128::from(hourly) * u128::from(length.as_secs()) / 3600;
    Micros::try_from(micros).unwrap_or(Micros::MAX)
}

/// A sum for people: cents, and more digits where there is less than one.
#[must_use]
pub fn dollars(sum: Micros) -> String {
    let digits = |unit: Micros, width: usize| {
        let parts = sum.div_ceil(unit);
        let whole = 1_000_000 / unit;
        format!("${}.{:0width$}", parts / whole, parts % whole)
    };
    match sum {
        0 => "$0.00".to_owned(),
        1..10_000 => digits(100, 4),
        _ => digits(10_000, 2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(cpu_kind: &str, cpus: u32, memory_mb: u32) -> Micros {
        guest(&Guest { cpu_kind: cpu_kind.into(), cpus, memory_mb, ..Guest::default() }) * HOURS
    }

    #[test]
    fn a_month_costs_about_what_fly_says() {
        let near = |is: Micros, should: f64| {
            let is = is as f64 / 1e6;
            assert!((is - should).abs() < 0.01, "{is} is not {should}");
        };
        near(of("shared", 1, 256), 2.02);
        near(of("shared", 2, 512), 4.04);
        near(of("shared", 1, 256 + 1024), 7.02);
        near(volume(10) * HOURS, 1.5);
        // What was not told is taken for the smallest.
        near(of("", 0, 0), 2.02);
    }

    #[test]
    fn of_what_no_price_is_known_the_least_is_told_as_such() {
        let of = |cpu_kind: &str, gpu_kind: Option<&str>| Guest {
            cpu_kind: cpu_kind.into(),
            gpu_kind: gpu_kind.map(str::to_owned),
            ..Guest::default()
        };
        assert!(is_least(&of("performance", None)) && is_least(&of("shared", Some("a10"))));
        assert!(!is_least(&of("shared", None)) && !is_least(&of("", None)));
    }

    #[test]
    fn what_stands_still_costs_its_disk_and_what_is_gone_nothing() {
        let at = |state: &str| {
            let told = serde_json::json!({"id": "a", "state": state,
                "config": {"guest": {"cpu_kind": "performance", "cpus": 1, "memory_mb": 2048}}});
            machine(&serde_json::from_value(told).unwrap())
        };
        assert_eq!(at("stopped"), at("suspended"));
        assert!(at("stopped") * 50 < at("started"));
        // What is not known may run.
        assert_eq!(at("hibernating"), at("started"));
        assert_eq!(at("destroyed"), 0);
    }

    #[test]
    fn sums_are_told_as_people_read_them_and_never_as_nothing() {
        for (sum, text) in [
            (0, "$0.00"),
            (1, "$0.0001"),
            (2_805, "$0.0029"),
            (9_999, "$0.0100"),
            (10_000, "$0.01"),
            (1_234_567, "$1.24"),
            (2_999_999, "$3.00"),
            (123_000_000, "$123.00"),
        ] {
            assert_eq!(dollars(sum), text, "{sum}");
        }
        assert_eq!(over(3_600, Duration::from_secs(7)), 7);
        assert_eq!(over(Micros::MAX, Duration::MAX), Micros::MAX);
    }
}
