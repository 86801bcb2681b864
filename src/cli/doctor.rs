//! `doctor`: the engine, and what restricts drillmaster on it.

use super::args::Global;
use super::{Exit, Failure, session};
use crate::engine::deadline::{Limits, within};
use crate::engine::{Engine, EngineInfo};
use crate::render::Style;
use crate::render::doctor::{self, Report};

pub(super) async fn doctor(global: &Global, style: Style) -> Result<Exit, Failure> {
    let config = session::engine_config(global)?;
    let (endpoint, origin) = (config.endpoint.to_string(), config.origin);
    let (info, buildkit) =
        ask(global).await.inspect_err(|_| style.note(format!("the engine is {endpoint} ({origin})")))?;
    let report = Report { endpoint, origin, info, buildkit };
    match style.json {
        true => style.result_json(&doctor::to_json(&report)),
        false => {
            style.result(&doctor::table(&report));
            doctor::warnings(&report).iter().for_each(|warning| style.note(format!("warning: {warning}")));
        }
    }
    Ok(Exit::Ok)
}

/// What the engine says of itself, and whether it builds with BuildKit; within the deadline of a read.
async fn ask(global: &Global) -> Result<(EngineInfo, bool), Failure> {
    let engine = session::docker(global).await?;
    let asked = async { Ok((engine.about().await?, engine.builds_with_buildkit().await?)) };
    Ok(within(Limits::default().read, || "say what it is".to_owned(), asked).await?)
}
