//! `POST /containers/{id}/update`

use crate::context::Context;
use crate::create::{LimitsAsked, RestartAsked};
use crate::failure::Failure;
use crate::reply::{self, Reply};
use engine::UpdateOptions;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Asked {
    #[serde(flatten)]
    limits: LimitsAsked,
    restart_policy: Option<RestartAsked>,
    /// Everything else.
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

/// `POST /containers/{id}/update`
pub async fn update(mut context: Context, wanted: &str) -> Result<Reply, Failure> {
    let asked: Asked = context.document().await?;
    crate::create::refuse(&asked.others)?;
    let mut said = crate::create::discarded(&asked.others, context.version);
    // Docker's command line sends an empty name for "as it is".
    let restart = asked.restart_policy.filter(RestartAsked::is_named);
    let limits = asked.limits.changes(context.version)?;
    let options = UpdateOptions { limits, restart: restart.map(|policy| policy.policy()).transpose()? };
    let name = wanted.to_owned();
    let warnings = context.workers().quick(move |engine| engine.update(&name, &options)).await?;
    said.extend(warnings);
    reply::ok(&json!({ "Warnings": said }))
}
