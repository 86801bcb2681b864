//! `doctor`: the engine, and what restricts drillmaster on it.

use super::args::Global;
use super::{Exit, Failure, session};
use crate::engine::Engine;
use crate::render::Style;
use crate::render::doctor::{self, Report};

pub(super) async fn doctor(global: &Global, style: Style) -> Result<Exit, Failure> {
    let config = session::engine_config(global)?;
    let (endpoint, origin) = (config.endpoint.to_string(), config.origin.clone());
    let report = async {
        let engine = session::docker(global).await?;
        let (info, buildkit) = (engine.about().await?, engine.builds_with_buildkit().await?);
        Ok::<_, Failure>(Report { endpoint: endpoint.clone(), origin: origin.clone(), info, buildkit })
    };
    let report = report.await.inspect_err(|_| style.note(format!("the engine is {endpoint} ({origin})")))?;
    match style.json {
        true => style.result_json(&doctor::to_json(&report)),
        false => {
            style.result(&doctor::table(&report));
            doctor::warnings(&report).iter().for_each(|warning| style.note(format!("warning: {warning}")));
        }
    }
    Ok(Exit::Ok)
}
