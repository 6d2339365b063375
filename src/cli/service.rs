//! What a vault that is open here can be asked: by the control socket, or by a
//! command that opened the vault itself.

use super::control::Request;
use super::exit::{Code, Failure};
use super::session;
use crate::engine::{Engine, Progress};
use anyhow::Result;
use serde_json::{Value, json};
use tokio::runtime::Handle;

/// Answers requests.
pub(super) trait Service: Send + Sync {
    /// Does what is asked and gives the result; may take long.
    fn handle(&self, request: &Request, progress: &dyn Progress) -> Result<Value>;
}

/// Answers with an open engine.
pub(super) struct EngineService {
    pub(super) engine: Engine,
    pub(super) runtime: Handle,
}

impl Service for EngineService {
    fn handle(&self, request: &Request, progress: &dyn Progress) -> Result<Value> {
        match request {
            Request::Status => Ok(serde_json::to_value(self.engine.status())?),
            Request::Sync { is_full } => {
                progress.begin("uploading", None);
                let outcome = self.runtime.block_on(self.engine.sync());
                progress.end();
                outcome.map_err(session::engine_failure)?;
                if *is_full { self.fsck(progress) } else { Ok(json!({})) }
            }
            Request::CacheStats => Ok(serde_json::to_value(self.engine.cache_stats())?),
            Request::CacheClear => {
                self.engine.clear_cache().map_err(session::engine_failure)?;
                Ok(serde_json::to_value(self.engine.cache_stats())?)
            }
            Request::Fsck => self.fsck(progress),
            Request::Unmount { .. } => {
                Err(Failure::new(Code::NotFound, "name a mount: nothing is mounted here").into())
            }
        }
    }
}

impl EngineService {
    fn fsck(&self, progress: &dyn Progress) -> Result<Value> {
        let report = self.runtime.block_on(self.engine.fsck(progress));
        Ok(serde_json::to_value(report.map_err(session::engine_failure)?)?)
    }
}
