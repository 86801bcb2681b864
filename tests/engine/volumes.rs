//! Volumes as leases use them: creating one is a test-and-set.

use std::collections::BTreeMap;
use std::time::Duration;

use drillmaster::engine::{Engine, Mutation};
use drillmaster::identity::GROUP;
use futures_util::future::join_all;

use crate::fixture::*;

#[tokio::test]
async fn existing_volume_keeps_its_labels() {
    let fixture = Fixture::new("volumes").await;
    let (engine, group) = (&fixture.engine, &fixture.group.name);
    engine.about().await.unwrap();
    let name = format!("{group}.lease.1");
    let labels = |number: usize| {
        BTreeMap::from([(GROUP.to_owned(), group.clone()), ("test.holder".to_owned(), number.to_string())])
    };
    let all: Vec<_> = (0..8).map(labels).collect();
    let found = join_all(all.iter().map(|labels| engine.create_volume(&name, labels))).await;
    // An engine may refuse to create what another request is creating.
    let found: Vec<_> = found.into_iter().flatten().collect();
    let winner = found.first().expect("one of them is created");
    assert!(found.iter().all(|labels| labels == winner), "{found:#?}");
    assert_eq!(&engine.create_volume(&name, &labels(9)).await.unwrap(), winner);

    let volumes = engine.volumes(GROUP, group).await.unwrap();
    let [volume] = volumes.as_slice() else { panic!("{volumes:#?}") };
    assert_eq!((&volume.name, &volume.labels), (&name, winner));
    assert!(volume.age.is_some_and(|age| age < Duration::from_secs(60)), "{volume:?}");
    assert_eq!(engine.volumes(GROUP, "another").await.unwrap(), []);
    for _ in 0..2 {
        engine.apply(&Mutation::RemoveVolume(name.clone())).await.unwrap();
    }
    assert_eq!(engine.volumes(GROUP, group).await.unwrap(), []);
}
