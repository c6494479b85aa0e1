//! `history`: how an image came to be, by its own word.

use crate::engine::Engine;
use crate::error::{Context, Result};

/// One step, the newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistoryStep {
    /// The image's identifier at the newest step; what came before has none any more.
    pub id: Option<String>,
    /// RFC 3339, as written; empty if absent.
    pub created: String,
    /// The command.
    pub created_by: String,
    /// Free text.
    pub comment: String,
    /// Bytes of the layer's files; 0 for a step that made none.
    pub size: u64,
    /// The image's names at its newest step.
    pub names: Vec<String>,
}

impl Engine {
    /// The steps of an image, the newest first. Layers that the configuration does not tell of come last.
    ///
    /// # Errors
    /// [`crate::Kind::NotFound`].
    pub fn history(&self, wanted: &str) -> Result<Vec<HistoryStep>> {
        let image = self.image(wanted)?;
        let store = self.store()?;
        let mut sizes = Vec::with_capacity(image.layers.len());
        for layer in &image.layers {
            sizes.push(store.layers().get(layer).internal(|| format!("cannot find layer {layer}"))?.size);
        }
        let mut sizes = sizes.into_iter();
        let mut steps: Vec<HistoryStep> = image
            .config
            .history
            .into_iter()
            .map(|step| HistoryStep {
                size: if step.empty_layer { 0 } else { sizes.next().unwrap_or(0) },
                created: step.created,
                created_by: step.created_by,
                comment: step.comment,
                ..HistoryStep::default()
            })
            .collect();
        steps.extend(sizes.map(|size| HistoryStep { size, ..HistoryStep::default() }));
        steps.reverse();
        if let Some(newest) = steps.first_mut() {
            newest.id = Some(image.summary.id);
            newest.names = image.summary.names;
        }
        Ok(steps)
    }
}
