//! The container's class of service (`linux.intelRdt`): made beside its cgroup, entered before its program runs.

use cgroup::resctrl::{self, Group, Request, Resctrl};
use runtime::Plan;
use rustix::process::Pid;
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::record::Record;
use crate::store::Container;

/// Lines for a class of service; those that are missing or empty change nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schemas {
    /// Of the L3 caches.
    pub l3_cache: Option<String>,
    /// Of memory bandwidth.
    pub memory_bandwidth: Option<String>,
}

/// Refuses what this machine does not have before there is anything of the container.
pub(crate) fn check(plan: &Plan) -> Result<()> {
    if plan.class.is_some() {
        Resctrl::find()?;
    }
    Ok(())
}

/// Makes the class and writes what it may use.
pub(crate) fn make(container: &mut Container, plan: &Plan) -> Result<Option<Group>> {
    let Some(class) = &plan.class else { return Ok(None) };
    let request = Request {
        class: &class.class,
        named: class.named,
        agreed: &class.agreed,
        schemata: &class.schemata,
        monitoring: class.monitoring.then_some(&plan.id),
    };
    let here = Resctrl::find()?;
    let mut description = here.describe(&request)?;
    // Before it is made: what a killed process leaves is removed by `delete`.
    note(container, &description)?;
    let group = match here.make(&mut description) {
        Err(error) => {
            // What is there is not the container's.
            (container.record.class, container.record.intel_rdt_mon_path) = (None, None);
            return Err(error.into());
        }
        Ok(group) => group,
    };
    if container.record.class.as_ref() != Some(&description) {
        note(container, &description)?;
    }
    group.configure(&request)?;
    Ok(Some(group))
}

fn note(container: &mut Container, description: &resctrl::Description) -> Result<()> {
    let directory = match description.class.as_str() {
        "" => description.root.clone(),
        name => description.root.join(name),
    };
    let record = &mut container.record;
    record.intel_rdt_mon_path = description.monitoring.as_ref().map(|name| directory.join("mon_groups").join(name));
    record.intel_rdt_path = Some(directory);
    record.class = Some(description.clone());
    container.save()
}

pub(crate) fn assign(class: Option<&Group>, pid: Pid) -> Result<()> {
    match class {
        Some(class) => Ok(class.assign(pid)?),
        None => Ok(()),
    }
}

/// Goes into the container's class, if that is still there, so that the process which is started next is born in it.
pub(crate) fn enter(record: &Record) -> Result<()> {
    assign(open(record)?.as_ref(), rustix::process::getpid())
}

fn open(record: &Record) -> Result<Option<Group>> {
    Ok(record.class.as_ref().map(Group::open).transpose()?.flatten())
}

/// Removes what was made for the container.
pub(crate) fn remove(record: &Record, failed: bool) -> Result<()> {
    match &record.class {
        Some(description) => Ok(resctrl::remove(description, failed)?),
        None => Ok(()),
    }
}

/// What `runc events` has of it.
pub(crate) fn figures(record: &Record) -> Result<Value> {
    let Some(group) = open(record)? else { return Ok(json!({})) };
    serde_json::to_value(group.figures()?).map_err(|error| Error::refused(error.to_string()))
}

/// Changes what the container's class may use.
pub(crate) fn change(record: &mut Record, schemas: &Schemas) -> Result<()> {
    let given = |line: &Option<String>| line.clone().filter(|line| !line.is_empty());
    let (cache, bandwidth) = (given(&schemas.l3_cache), given(&schemas.memory_bandwidth));
    if cache.is_none() && bandwidth.is_none() {
        return Ok(());
    }
    let known = record.spec.linux.as_mut().and_then(|linux| linux.intel_rdt.as_mut());
    let (Some(known), Some(description)) = (known, &record.class) else {
        return Err(Error::refused("updating a non-existent Intel RDT configuration is not supported"));
    };
    let Some(group) = Group::open(description)? else {
        return Err(Error::refused(format!("linux.intelRdt: the class of service {:?} is gone", description.class)));
    };
    if cache.is_some() && !group.has("L3") {
        return Err(Error::refused("Intel RDT/CAT: l3 cache schema is not enabled"));
    }
    if bandwidth.is_some() && !group.has("MB") {
        return Err(Error::refused("Intel RDT/MBA: memory bandwidth schema is not enabled"));
    }
    let lines: Vec<String> = cache.iter().chain(&bandwidth).cloned().collect();
    group.write_schemata(&lines)?;
    known.l3_cache_schema = cache.or(known.l3_cache_schema.take());
    known.mem_bw_schema = bandwidth.or(known.mem_bw_schema.take());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci::runtime::{Linux, LinuxIntelRdt, Spec};

    fn container(root: &std::path::Path) -> Record {
        let linux = Linux { intel_rdt: Some(LinuxIntelRdt::default()), ..Linux::default() };
        let description =
            resctrl::Description { root: root.to_owned(), class: "gold".to_owned(), ..Default::default() };
        Record { class: Some(description), spec: Spec { linux: Some(linux), ..Spec::default() }, ..Record::default() }
    }

    #[test]
    fn a_change_is_written_and_remembered() {
        let place = tempfile::tempdir().unwrap();
        let mut record = container(place.path());
        let schemas = Schemas { l3_cache: Some("L3:0=f".to_owned()), memory_bandwidth: Some(String::new()) };
        assert!(change(&mut record, &schemas).unwrap_err().chain().ends_with("\"gold\" is gone"));
        std::fs::create_dir_all(place.path().join("gold")).unwrap();
        assert!(change(&mut record, &schemas).unwrap_err().chain().contains("not enabled"));
        std::fs::create_dir_all(place.path().join("info/L3")).unwrap();
        std::fs::write(place.path().join("gold/schemata"), "").unwrap();
        change(&mut record, &schemas).unwrap();
        assert_eq!(std::fs::read_to_string(place.path().join("gold/schemata")).unwrap(), "L3:0=f\n");
        let known = record.spec.linux.clone().unwrap().intel_rdt.unwrap();
        assert_eq!((known.l3_cache_schema.as_deref(), known.mem_bw_schema), (Some("L3:0=f"), None));
        assert!(change(&mut Record::default(), &Schemas::default()).is_ok());
        assert!(change(&mut Record::default(), &schemas).unwrap_err().chain().contains("non-existent"));
    }

    #[test]
    fn use_is_told() {
        let place = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(place.path().join("gold")).unwrap();
        std::fs::create_dir_all(place.path().join("info")).unwrap();
        std::fs::write(place.path().join("gold/schemata"), "L2:0=f\n").unwrap();
        assert_eq!(figures(&container(place.path())).unwrap(), json!({"schemata": ["L2:0=f"]}));
        assert_eq!(figures(&Record::default()).unwrap(), json!({}));
    }
}
