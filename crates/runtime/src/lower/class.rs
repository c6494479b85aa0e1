//! `linux.intelRdt`: the class of service for caches and memory bandwidth.

use oci::runtime::LinuxIntelRdt;

use super::wrong;
use crate::lower::PlanError;
use crate::plan::ClassPlan;

/// What the file system has in its root beside classes.
const TAKEN: [&str; 3] = ["info", "mon_groups", "mon_data"];

pub(super) fn class(rdt: Option<&LinuxIntelRdt>, id: &str) -> Result<Option<ClassPlan>, PlanError> {
    let Some(rdt) = rdt else { return Ok(None) };
    let named = rdt.clos_id.as_deref().filter(|name| !name.is_empty());
    let class = match named {
        Some("/") => "",
        Some(name) => name,
        None => id,
    };
    // One name below the root of the file system, and nothing that leads elsewhere.
    let bad = |name: &str| {
        name.len() > 255
            || name.contains(|letter: char| letter == '/' || letter.is_control())
            || matches!(name, "." | "..")
    };
    if bad(class) || TAKEN.contains(&class) || (class.is_empty() && named.is_none()) {
        return wrong("linux.intelRdt.closID", format!("{class:?} is no name of a class of service"));
    }
    let given = |line: &Option<String>| line.clone().filter(|line| !line.is_empty());
    let mut agreed = Vec::new();
    if let Some(cache) = given(&rdt.l3_cache_schema) {
        agreed.push(cache);
    }
    if let Some(bandwidth) = given(&rdt.mem_bw_schema) {
        if !bandwidth.starts_with("MB:") || bandwidth.contains('\n') {
            return wrong("linux.intelRdt.memBwSchema", format!("{bandwidth:?} is no line that begins with MB:"));
        }
        agreed.push(bandwidth);
    }
    let schemata: Vec<String> = rdt.schemata.iter().filter(|line| !line.is_empty()).cloned().collect();
    if let Some(line) = schemata.iter().find(|line| line.contains('\n')) {
        return wrong("linux.intelRdt.schemata", format!("{line:?} is more than one line"));
    }
    Ok(Some(ClassPlan {
        class: class.to_owned(),
        named: named.is_some(),
        agreed,
        schemata,
        monitoring: rdt.enable_monitoring,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> LinuxIntelRdt {
        LinuxIntelRdt { clos_id: Some(name.to_owned()), ..LinuxIntelRdt::default() }
    }

    #[test]
    fn names_lead_nowhere_else() {
        for name in ["../x", "a/b", "//", ".", "..", "info", "mon_groups", "mon_data", "a\nb", &"x".repeat(256)] {
            assert!(class(Some(&named(name)), "box").is_err(), "{name}");
        }
        for id in ["info", "", ".."] {
            assert!(class(Some(&LinuxIntelRdt::default()), id).is_err(), "{id}");
        }
        for (name, meant, known) in [("gold", "gold", true), ("/", "", true), ("", "box", false)] {
            let plan = class(Some(&named(name)), "box").unwrap().unwrap();
            assert_eq!((plan.class.as_str(), plan.named), (meant, known), "{name}");
        }
        assert_eq!(class(None, "box"), Ok(None));
    }

    #[test]
    fn lines_have_their_order() {
        let lines = |rdt: LinuxIntelRdt| class(Some(&rdt), "box").map(Option::unwrap);
        let rdt = LinuxIntelRdt {
            schemata: vec!["L2:0=f".into(), String::new()],
            mem_bw_schema: Some("MB:0=20".into()),
            l3_cache_schema: Some("L3:0=f".into()),
            ..LinuxIntelRdt::default()
        };
        let plan = lines(rdt.clone()).unwrap();
        assert_eq!((plan.agreed, plan.schemata), (vec!["L3:0=f".into(), "MB:0=20".into()], vec!["L2:0=f".into()]));
        for bad in ["L3:0=f", "MB:0=20\nL3:0=f"] {
            assert!(lines(LinuxIntelRdt { mem_bw_schema: Some(bad.into()), ..rdt.clone() }).is_err(), "{bad}");
        }
        assert!(lines(LinuxIntelRdt { schemata: vec!["L2:0=f\nL3:0=f".into()], ..rdt }).is_err());
    }
}
