//! The fleet that `examples/fleet/` declares is the one that its comments promise.

use std::{collections::BTreeSet, fs, path::Path};

use open_dispatch::resource::{
    AnyObject,
    cron::Cron,
    expand::{NoDirectories, members},
    yaml,
};

#[test]
fn ten_agents_work_over_three_repositories() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/fleet");
    let mut agents = BTreeSet::new();
    let mut repos = BTreeSet::new();
    let mut schedules = 0;
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|ending| ending != "yaml") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let name = path.display().to_string();
        for object in yaml::read(&text, Some(&name)).unwrap_or_else(|faults| panic!("{faults}")) {
            let made = match object {
                AnyObject::Fleet(fleet) => {
                    let name = &fleet.metadata.name;
                    members(name, &fleet.spec, Err(NoDirectories), &mut |_| Ok(()))
                        .unwrap_or_else(|faults| panic!("{faults}"))
                        .into_iter()
                        .map(|member| member.object)
                        .collect()
                }
                AnyObject::Schedule(schedule) => {
                    schedules += 1;
                    let zone = schedule.spec.time_zone.as_deref();
                    assert!(Cron::read(&schedule.spec.schedule, zone).is_ok());
                    Vec::new()
                }
                other => vec![other],
            };
            for object in made {
                let AnyObject::Agent(agent) = object else { panic!("{object:?} is no agent") };
                assert!(agents.insert(agent.metadata.name), "two of one name");
                repos.extend(agent.spec.repo.and_then(|repo| repo.github));
            }
        }
    }
    assert_eq!((agents.len(), repos.len(), schedules), (10, 3, 1), "{agents:?} {repos:?}");
}
