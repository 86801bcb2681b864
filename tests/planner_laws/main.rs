//! Properties of the planner: for any desired and observed state, plans follow the engine's rules, touch only managed
//! containers, keep the order of dependencies, and converge even after an interruption.

#![allow(clippy::unwrap_used, reason = "a panic fails the test")]

#[path = "../builders/mod.rs"]
mod builders;
mod case;
mod run;

use std::time::Duration;

use drillmaster::desired::{Desired, Mode, Scope};
use drillmaster::observed::{Container, Observed, State};
use drillmaster::plan::{Memory, check, effect, forecast};
use drillmaster::types::ContainerId;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use builders::*;
use case::*;
use run::*;

/// Returns the containers that must not change: foreign ones and those out of scope.
fn untouchable(desired: &Desired, observed: &Observed) -> Vec<Container> {
    observed
        .containers
        .values()
        .filter(|container| container.service_of(GROUP).is_none_or(|name| !desired.scope.contains(name)))
        // The engine itself changes these.
        .filter(|container| !matches!(container.state, State::Removing | State::Restarting))
        .cloned()
        .collect()
}

/// Replaces the ids so that lists are in reverse order.
fn with_reversed_ids(observed: &Observed) -> Observed {
    let mut turned = observed.clone();
    turned.containers.clear();
    for (n, container) in observed.containers.values().enumerate() {
        let id = ContainerId::from(format!("{:03}-{}", 999 - n, container.id));
        turned.containers.insert(id.clone(), Container { id, ..container.clone() });
    }
    turned
}

fn config() -> ProptestConfig {
    // The seed is fixed, so that results are comparable. With PROPTEST_CASES the cases are random; a failing case is
    // printed completely.
    let rng_seed = match std::env::var_os("PROPTEST_CASES") {
        None => RngSeed::Fixed(20_260_923),
        Some(_) => RngSeed::Random,
    };
    let default = ProptestConfig::default();
    let cases = if rng_seed == RngSeed::Random { default.cases } else { 1500 };
    ProptestConfig { cases, rng_seed, failure_persistence: None, ..default }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn plans_converge_in_any_order_of_execution(case in case()) {
        let (desired, observed) = (case.desired(), case.observed());
        let before = untouchable(&desired, &observed);
        let mut run = Run::new(&case, &desired, observed, case.order);
        run.go(None)?;
        run.has_converged()?;
        for container in before {
            prop_assert_eq!(Some(&container), run.observed.containers.get(&container.id));
        }
    }

    #[test]
    fn next_run_completes_an_interrupted_run(case in case(), after in 0..30_usize) {
        let (desired, observed) = (case.desired(), case.observed());
        let mut whole = Run::new(&case, &desired, observed.clone(), case.order);
        whole.go(None)?;
        let mut first = Run::new(&case, &desired, observed, case.order);
        first.go(Some(after))?;
        let details = std::mem::take(&mut first.details);
        let mut second = Run::new(&case, &desired, first.observed, !case.order);
        second.details = details;
        second.go(None)?;
        second.has_converged()?;
        if !whole.has_failures() && matches!(desired.mode, Mode::Reconcile { .. }) && desired.scope == Scope::All {
            let text = |observed: &Observed| picture(observed).replace("Exited { code: None }", "Exited");
            prop_assert_eq!(text(&whole.observed), text(&second.observed));
        }
    }

    #[test]
    fn order_of_lists_does_not_affect_the_forecast(case in case()) {
        let (desired, mut observed) = (case.desired(), case.observed());
        // A forecast does not predict changes by the engine itself.
        observed.containers.retain(|_, container| !matches!(container.state, State::Removing | State::Restarting));
        let lines = |observed: &Observed| {
            let mut lines: Vec<String> = forecast(&desired, observed, &Memory::default()).steps.iter().map(ToString::to_string).collect();
            lines.sort();
            lines
        };
        prop_assert_eq!(lines(&observed), lines(&with_reversed_ids(&observed)));
    }

    #[test]
    fn forecast_converges(case in case()) {
        let (desired, mut observed) = (case.desired(), case.observed());
        observed.containers.retain(|_, container| !matches!(container.state, State::Removing | State::Restarting));
        let details = Run::new(&case, &desired, observed.clone(), 0).details;
        for container in observed.containers.values_mut() {
            container.details = details.get(&container.id).cloned();
        }
        let mut memory = Memory::default();
        let whole = forecast(&desired, &observed, &Memory::default());
        for step in &whole.steps {
            prop_assert_eq!(check::violation(step, &desired, &observed), None);
            effect::apply(step, None, Duration::ZERO, &desired, &mut observed, &mut memory);
        }
        if whole.failures.is_empty() {
            prop_assert_eq!(forecast(&desired, &observed, &Memory::default()).steps, Vec::new());
        }
        // Changes are listed if and only if there are steps or failures.
        if whole.steps.is_empty() && whole.failures.is_empty() && desired.scope == Scope::All {
            prop_assert_eq!(&whole.changes, &Vec::new());
        }
        prop_assert!(whole.steps.is_empty() || !whole.changes.is_empty(), "{:?}", whole.steps);
    }
}
