//! Changing a container's limits and restart policy, also while it runs.

use super::options::{IoLimits, Limits, RestartPolicy};
use super::record::Settings;
use super::table;
use crate::engine::Engine;
use crate::error::{Context, Error, Kind, Result};

/// What is to be changed; what is not named stays.
#[derive(Clone, Debug, Default)]
pub struct UpdateOptions {
    /// Limits; those that are `None` stay.
    pub limits: Limits,
    /// Restart policy.
    pub restart: Option<RestartPolicy>,
}

impl Engine {
    /// Changes a container. Returns what the user should know, a sentence each.
    ///
    /// # Errors
    /// [`Kind::InvalidArgument`] for a limit that cannot be, before anything is changed; a limit that the kernel refuses.
    pub fn update(&self, wanted: &str, options: &UpdateOptions) -> Result<Vec<String>> {
        let container = self.inspect(wanted)?;
        let mut settings = container.settings.clone();
        if let Some(policy) = options.restart {
            if settings.auto_remove && policy != RestartPolicy::No {
                return Err(Error::new(
                    Kind::Conflict,
                    "Restart policy cannot be updated because AutoRemove is enabled for the container",
                ));
            }
            settings.restart = policy;
        }
        settings.limits = super::settle::limits(&merged(&settings.limits, &options.limits))?;
        let mut warnings = Vec::new();
        if container.status.is_running() && options.limits.any() {
            warnings = self.apply_now(&container.id, &settings, &options.limits)?;
        }
        table::change_settings(&mut *self.database()?, &container.id, |stored: &mut Settings| {
            // What another process has changed since we looked, stays.
            stored.limits = super::settle::limits(&merged(&stored.limits, &options.limits))?;
            stored.restart = options.restart.unwrap_or(stored.restart);
            Ok(())
        })?;
        self.record_of(&container.id, &container.name, &settings, "update", &[]);
        Ok(warnings)
    }

    fn apply_now(&self, id: &str, settings: &Settings, changed: &Limits) -> Result<Vec<String>> {
        let path = crate::lower::cgroup_path(settings, id);
        let state = self.running_state(id)?;
        let Some(mut group) = crate::group::find(self.host()?, &path, state.as_ref())? else {
            return Err(Error::new(Kind::Unavailable, format!("container {id} has no cgroup to limit"))
                .hint("an ordinary user needs delegated cgroups: see docs/rootless.md"));
        };
        let mut resources = crate::lower::resources::resources(settings, self.host()?)?;
        // Rules for devices stay as they are.
        resources.devices.clear();
        if let Some(memory) = &mut resources.memory {
            memory.check_before_update = Some(true);
        }
        let touches_memory =
            changed.memory.is_some() || changed.memory_swap.is_some() || changed.memory_reservation.is_some();
        if !touches_memory {
            resources.memory = None;
        }
        let touches_processors = changed.nano_cpus.is_some()
            || changed.cpu_shares.is_some()
            || changed.cpu_period.is_some()
            || changed.cpu_quota.is_some()
            || changed.cpuset_cpus.is_some()
            || changed.cpuset_mems.is_some()
            || changed.cpu_realtime_period.is_some()
            || changed.cpu_realtime_runtime.is_some();
        if !touches_processors {
            resources.cpu = None;
        }
        if changed.io.weight.is_none() {
            resources.block_io = None;
        }
        if changed.pids.is_none() {
            resources.pids = None;
        }
        let unenforced =
            group.apply(&resources).kind(Kind::InvalidArgument, || format!("cannot update container {id}"))?;
        Ok(unenforced.iter().map(|wish| format!("the limit {} is not in force: {}", wish.limit, wish.reason)).collect())
    }
}

/// The old limits with the new ones over them.
fn merged(old: &Limits, new: &Limits) -> Limits {
    let by_cpus = new.nano_cpus.is_some();
    let by_quota = new.cpu_quota.is_some() || new.cpu_period.is_some();
    let own = |old: &Option<String>, new: &Option<String>| new.clone().or_else(|| old.clone());
    Limits {
        memory: new.memory.or(old.memory),
        memory_swap: new.memory_swap.or(old.memory_swap),
        memory_reservation: new.memory_reservation.or(old.memory_reservation),
        // The two ways to say the same replace one another.
        nano_cpus: new.nano_cpus.or(old.nano_cpus.filter(|_| !by_quota)),
        cpu_shares: new.cpu_shares.or(old.cpu_shares),
        cpu_period: new.cpu_period.or(old.cpu_period.filter(|_| !by_cpus)),
        cpu_quota: new.cpu_quota.or(old.cpu_quota.filter(|_| !by_cpus)),
        cpuset_cpus: own(&old.cpuset_cpus, &new.cpuset_cpus),
        cpuset_mems: own(&old.cpuset_mems, &new.cpuset_mems),
        pids: new.pids.or(old.pids),
        cpu_realtime_period: new.cpu_realtime_period.or(old.cpu_realtime_period),
        cpu_realtime_runtime: new.cpu_realtime_runtime.or(old.cpu_realtime_runtime),
        memory_swappiness: old.memory_swappiness,
        oom_kill_disable: old.oom_kill_disable,
        io: IoLimits { weight: new.io.weight.or(old.io.weight), ..old.io.clone() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_named_stays() {
        let old = Limits { memory: Some(1), nano_cpus: Some(5), pids: Some(9), ..Limits::default() };
        let new = merged(&old, &Limits { memory: Some(2), cpu_quota: Some(7), ..Limits::default() });
        assert_eq!((new.memory, new.nano_cpus, new.cpu_quota, new.pids), (Some(2), None, Some(7), Some(9)));
        assert_eq!(merged(&old, &Limits::default()), old);
    }
}
