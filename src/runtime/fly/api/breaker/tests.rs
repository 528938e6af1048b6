use super::*;
use crate::runtime::fly::api::{Action, errors::Answer};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn failed() -> Result<(), ApiError> {
    Err(ApiError::Unavailable(Answer::without(Action::List, "no connection")))
}

fn refused() -> Result<(), ApiError> {
    Err(ApiError::Token(Answer::without(Action::Get, "token validation error")))
}

/// Makes a call that ends so; whether it was let out.
fn call(breaker: &mut Breaker, end: &Result<(), ApiError>, now: i64) -> Option<Admission> {
    let admission = breaker.admit(at(now)).ok()?;
    breaker.note(admission, end, at(now));
    Some(admission)
}

#[test]
fn a_run_of_failures_opens_it_and_one_probe_closes_it() {
    let mut breaker = Breaker::default();
    for second in 0..5 {
        assert_eq!(breaker.condition(), None);
        assert_eq!(call(&mut breaker, &failed(), second), Some(Admission::Free));
    }
    let condition = breaker.condition().unwrap();
    assert_eq!((condition.since, condition.until), (at(4), at(9)));
    assert_eq!(condition.why, "Fly could not be asked to list the machines: no connection");
    assert_eq!(call(&mut breaker, &Ok(()), 8), None);
    assert_eq!(call(&mut breaker, &Ok(()), 9), Some(Admission::Probe));
    assert_eq!(breaker.condition(), None);
    assert_eq!(call(&mut breaker, &Ok(()), 9), Some(Admission::Free));
}

#[test]
fn only_one_tries_and_the_others_are_told_to_wait() {
    let mut breaker = Breaker::default();
    (0..3).for_each(|second| assert!(call(&mut breaker, &refused(), second).is_some()));
    assert!(breaker.look(at(31)).is_err());
    assert!(breaker.look(at(32)).is_ok());
    assert_eq!(breaker.admit(at(40)), Ok(Admission::Probe));
    let Err(ApiError::Resting { until, .. }) = breaker.admit(at(40)) else {
        panic!("a second one")
    };
    assert_eq!(until, at(45));
    assert!(breaker.look(at(40)).is_err());
    // It was dropped on the way: the next may try.
    breaker.let_go();
    assert_eq!(breaker.admit(at(41)), Ok(Admission::Probe));
}

#[test]
fn a_probe_that_fails_rests_twice_as_long_up_to_a_bound_and_keeps_since_when() {
    let mut breaker = Breaker::default();
    (0..5).for_each(|_| assert!(call(&mut breaker, &failed(), 0).is_some()));
    let mut now = at(0);
    let mut rests = Vec::new();
    for _ in 0..7 {
        let until = breaker.condition().unwrap().until;
        rests.push(until.duration_since(now).as_secs());
        now = until;
        let admission = breaker.admit(now).unwrap();
        assert_eq!(admission, Admission::Probe);
        breaker.note(admission, &refused(), now);
    }
    assert_eq!(rests, [5, 10, 20, 40, 80, 120, 120]);
    let condition = breaker.condition().unwrap();
    assert_eq!(condition.since, at(0));
    assert!(condition.why.starts_with("Fly does not know the token"), "{}", condition.why);
}

#[test]
fn what_only_concerns_one_machine_opens_nothing_and_ends_a_run() {
    let mut breaker = Breaker::default();
    let of_one = Err(ApiError::NotNow(Answer::without(Action::Start, "still active")));
    for _ in 0..10 {
        (0..4).for_each(|_| assert!(call(&mut breaker, &failed(), 0).is_some()));
        (0..2).for_each(|_| assert!(call(&mut breaker, &refused(), 0).is_some()));
        assert!(call(&mut breaker, &of_one, 0).is_some());
    }
    assert_eq!(breaker.condition(), None);
}

#[test]
fn calls_that_left_before_it_opened_do_not_make_it_worse_and_may_make_it_good() {
    let mut breaker = Breaker::default();
    (0..5).for_each(|_| assert!(call(&mut breaker, &failed(), 0).is_some()));
    breaker.note(Admission::Free, &failed(), at(1));
    assert_eq!(breaker.condition().unwrap().until, at(5));
    breaker.note(Admission::Free, &Ok(()), at(2));
    assert_eq!(breaker.condition(), None);
}
