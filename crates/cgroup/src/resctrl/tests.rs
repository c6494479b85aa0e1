//! Against a directory that looks like the file system; no machine here has the hardware.

use super::*;
use std::fs;

struct Machine {
    place: PathBuf,
}

impl Machine {
    fn new(name: &str) -> Machine {
        let place = std::env::temp_dir().join(format!("dhow-resctrl-{name}-{}", std::process::id()));
        drop(fs::remove_dir_all(&place));
        let machine = Machine { place };
        machine.fill("", "    MB:0=100;1=100\n    L3:0=fff;1=fff\n");
        machine.put("info/last_cmd_status", "ok\n");
        for (file, text) in [("cbm_mask", "fff\n"), ("min_cbm_bits", "2\n"), ("num_closids", "16\n")] {
            machine.put(&format!("info/L3/{file}"), text);
        }
        let bandwidth =
            [("bandwidth_gran", "10\n"), ("delay_linear", "1\n"), ("min_bandwidth", "10\n"), ("num_closids", "8\n")];
        for (file, text) in bandwidth {
            machine.put(&format!("info/MB/{file}"), text);
        }
        machine.put(
            "info/L3_MON/mon_features",
            "llc_occupancy\nmbm_total_bytes\nmbm_total_bytes_config\nmbm_local_bytes\n",
        );
        machine
    }

    fn put(&self, file: &str, text: &str) {
        let path = self.place.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// What the kernel has in a group.
    fn fill(&self, group: &str, schemata: &str) {
        self.put(format!("{group}/schemata").trim_start_matches('/'), schemata);
        self.put(format!("{group}/tasks").trim_start_matches('/'), "");
        fs::create_dir_all(self.place.join(group).join(MON_GROUPS)).unwrap();
    }

    fn text(&self, file: &str) -> String {
        fs::read_to_string(self.place.join(file)).unwrap()
    }

    fn has(&self, path: &str) -> bool {
        fs::symlink_metadata(self.place.join(path)).is_ok()
    }

    fn empty(&self, group: &str) {
        for file in ["schemata", "tasks"] {
            drop(fs::remove_file(self.place.join(group).join(file)));
        }
        drop(fs::remove_dir(self.place.join(group).join(MON_GROUPS)));
    }

    fn make(&self, request: &Request<'_>) -> Result<(Description, Group)> {
        let here = Resctrl::at(&self.place)?;
        let mut description = here.describe(request)?;
        let group = here.make(&mut description)?;
        Ok((description, group))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.place));
    }
}

fn lines(lines: &[&str]) -> Vec<String> {
    lines.iter().map(|line| (*line).to_owned()).collect()
}

fn me() -> Pid {
    rustix::process::getpid()
}

#[test]
fn a_class_of_the_containers_own_comes_and_goes() {
    let machine = Machine::new("own");
    let (l3, rest) = (lines(&["L3:0=f;1=f0", "MB:0=20"]), lines(&["L3:1=f"]));
    let request = Request { class: "box", agreed: &l3, schemata: &rest, ..Request::default() };
    let (description, group) = machine.make(&request).unwrap();
    assert!(description.made);
    machine.fill("box", "");
    group.configure(&request).unwrap();
    // A plain file keeps the last write from its beginning on; the kernel takes each as a command.
    assert_eq!(machine.text("box/schemata"), "L3:1=f\n1=f0\nMB:0=20\n");
    group.assign(me()).unwrap();
    assert_eq!(machine.text("box/tasks"), me().as_raw_nonzero().to_string());
    assert_eq!(Group::open(&description).unwrap().unwrap().class.path(), machine.place.join("box"));
    machine.empty("box");
    remove(&description, false).unwrap();
    assert!(!machine.has("box"));
    assert!(Group::open(&description).unwrap().is_none());
    remove(&description, false).unwrap();
}

#[test]
fn a_named_class_stays() {
    let machine = Machine::new("named");
    machine.fill("gold", "    MB:0=50;1=100\n    L3:0=00f;1=fff\n");
    let agreed = lines(&["L3:0=f", "MB:0=45"]);
    let request =
        Request { class: "gold", named: true, agreed: &agreed, monitoring: Some("box"), ..Request::default() };
    let (description, group) = machine.make(&request).unwrap();
    assert!(!description.made);
    group.configure(&request).unwrap();
    assert!(machine.text("gold/schemata").starts_with("L3:0=f\nMB:0=45\n"));
    machine.put("gold/mon_groups/box/tasks", "");
    group.assign(me()).unwrap();
    assert_eq!(machine.text("gold/tasks"), machine.text("gold/mon_groups/box/tasks"));
    // The group is one container's own.
    assert_eq!(machine.make(&request).unwrap_err().errno(), Some(Errno::EXIST));
    machine.empty("gold/mon_groups/box");
    remove(&description, false).unwrap();
    assert!(machine.has("gold") && !machine.has("gold/mon_groups/box"));
}

#[test]
fn a_class_that_is_there_must_agree() {
    let machine = Machine::new("agree");
    machine.fill("gold", "L3:0=fff\n");
    let agreed = lines(&["L3:0=f"]);
    let request = Request { class: "gold", named: true, agreed: &agreed, ..Request::default() };
    let (_, group) = machine.make(&request).unwrap();
    let told = group.configure(&request).unwrap_err().to_string();
    assert!(told.contains("/gold is there with \"L3:0=fff\", not with \"L3:0=f\""), "{told}");
    assert_eq!(machine.text("gold/schemata"), "L3:0=fff\n");
}

#[test]
fn without_a_schema_a_named_class_must_be_there() {
    let machine = Machine::new("must");
    let request = Request { class: "gold", named: true, ..Request::default() };
    assert!(matches!(machine.make(&request), Err(Error::NoClass { .. })));
    assert!(!machine.has("gold"));
    machine.fill("gold", "L3:0=fff\n");
    let (description, group) = machine.make(&request).unwrap();
    group.configure(&request).unwrap();
    // Nothing was asked for, so nothing is written.
    assert_eq!(machine.text("gold/schemata"), "L3:0=fff\n");
    remove(&description, true).unwrap();
    assert!(machine.has("gold"));
}

#[test]
fn the_default_class_is_the_root() {
    let machine = Machine::new("default");
    let request = Request { class: "", named: true, monitoring: Some("box"), ..Request::default() };
    let (description, group) = machine.make(&request).unwrap();
    machine.put("mon_groups/box/tasks", "");
    group.configure(&request).unwrap();
    group.assign(me()).unwrap();
    assert_eq!(machine.text("tasks"), me().as_raw_nonzero().to_string());
    assert_eq!(machine.text("tasks"), machine.text("mon_groups/box/tasks"));
    machine.empty("mon_groups/box");
    remove(&description, true).unwrap();
    assert!(machine.has("info") && !machine.has("mon_groups/box"));
}

#[test]
fn nothing_half_made_is_left() {
    let machine = Machine::new("half");
    machine.put("info/last_cmd_status", "too \x1b[31mmany\n");
    // A plain directory has no mon_groups in it, which is as if the kernel refused the second step.
    let request = Request { class: "box", monitoring: Some("box"), ..Request::default() };
    assert_eq!(machine.make(&request).unwrap_err().errno(), Some(Errno::NOENT));
    assert!(!machine.has("box"));
    // A schema that is refused: here, as there is no such file in a directory that is no class.
    let agreed = lines(&["L3:0=f"]);
    let request = Request { class: "gold", named: true, agreed: &agreed, ..Request::default() };
    let (description, group) = machine.make(&request).unwrap();
    let told = group.configure(&request).unwrap_err().to_string();
    let call = format!("openat(<{}/gold>, \"schemata\", O_WRONLY): ENOENT", machine.place.display());
    assert!(told.starts_with(&call), "{told}");
    assert!(told.ends_with("; the kernel says \"too \\u{1b}[31mmany\""), "{told}");
    machine.put("gold/tasks", "1\n");
    remove(&description, true).unwrap();
    assert!(machine.has("gold"), "somebody has come into it");
    machine.put("gold/tasks", "");
    // The kernel removes a class with its files; here the directory is not empty, which shows that it was tried.
    assert_eq!(remove(&description, true).unwrap_err().errno(), Some(Errno::NOTEMPTY));
    assert_eq!(remove(&description, false).ok(), Some(()));
}

#[test]
fn links_and_endless_files_lead_nowhere() {
    let machine = Machine::new("hostile");
    std::os::unix::fs::symlink("/etc", machine.place.join("etc")).unwrap();
    let request = Request { class: "etc", named: true, ..Request::default() };
    assert!(matches!(machine.make(&request).unwrap_err().errno(), Some(Errno::LOOP | Errno::NOTDIR)));
    machine.fill("gold", "");
    fs::remove_file(machine.place.join("gold/schemata")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", machine.place.join("gold/schemata")).unwrap();
    let agreed = lines(&["L3:0=f"]);
    let request = Request { class: "gold", named: true, agreed: &agreed, ..Request::default() };
    let (_, group) = machine.make(&request).unwrap();
    assert_eq!(group.configure(&request).unwrap_err().errno(), Some(Errno::LOOP));
    fs::remove_file(machine.place.join("gold/schemata")).unwrap();
    machine.put("gold/schemata", &"L3:0=f;".repeat(100_000));
    assert_eq!(group.configure(&request).unwrap_err().errno(), Some(Errno::FBIG));
    fs::remove_file(machine.place.join("gold/schemata")).unwrap();
    let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU);
    rustix::fs::mknodat(rustix::fs::CWD, machine.place.join("gold/schemata"), kind, mode, 0).unwrap();
    assert!(matches!(group.configure(&request), Err(Error::Differs { .. })), "a FIFO is not waited for");
}

#[test]
fn figures_are_runcs() {
    let machine = Machine::new("figures");
    machine.fill("gold", "    MB:0=50;1=100\n  SMBA:0=8\n    L3:0=00f;1=fff\n");
    for (domain, total) in [("00", "100\n"), ("01", "Unavailable\n")] {
        let place = format!("gold/mon_data/mon_L3_{domain}");
        machine.put(&format!("{place}/mbm_total_bytes"), total);
        machine.put(&format!("{place}/mbm_local_bytes"), "5\n");
        machine.put(&format!("{place}/llc_occupancy"), "4096\n");
    }
    machine.put("gold/mon_data/mon_PERF_PKG_00/core_energy", "0.1\n");
    let request = Request { class: "gold", named: true, ..Request::default() };
    let (_, group) = machine.make(&request).unwrap();
    let told = serde_json::to_value(group.figures().unwrap()).unwrap();
    let expected = serde_json::json!({
        "l3_cache_info": {"cbm_mask": "fff", "min_cbm_bits": 2, "num_closids": 16},
        "l3_cache_schema_root": "L3:0=fff;1=fff",
        "l3_cache_schema": "L3:0=00f;1=fff",
        "mem_bw_info": {"bandwidth_gran": 10, "delay_linear": 1, "min_bandwidth": 10, "num_closids": 8},
        "mem_bw_schema_root": "MB:0=100;1=100",
        "mem_bw_schema": "MB:0=50;1=100",
        "schemata": ["MB:0=50;1=100", "SMBA:0=8", "L3:0=00f;1=fff"],
        "mbm_stats": [{"mbm_total_bytes": 100, "mbm_local_bytes": 5}, {"mbm_local_bytes": 5}],
        "cmt_stats": [{"llc_occupancy": 4096}, {"llc_occupancy": 4096}],
    });
    assert_eq!(told, expected);
    machine.put("gold/mon_data/mon_L3_00/llc_occupancy", "many\n");
    let told = group.figures().unwrap_err().to_string();
    assert!(told.ends_with("gold/mon_data/mon_L3_00/llc_occupancy: \"many\" is no number"), "{told}");
}

#[test]
fn it_is_found_by_its_type() {
    let table = "\
25 30 0:22 / /sys/fs/resctrl rw,nosuid - tmpfs resctrl rw
26 25 0:23 /gold /gold rw shared:5 - resctrl resctrl rw
27 25 0:23 / /odd\\040place rw shared:6 master:2 - resctrl resctrl rw,cdp
28 25 0:23 / /x rw - fuse.resctrl resctrl rw
damaged - resctrl
";
    assert_eq!(mount_points(table), [Path::new("/odd place")]);
}

#[test]
fn a_machine_without_it_is_told_in_a_sentence() {
    let told = match Resctrl::find() {
        Ok(_) => return,
        Err(error) => error.to_string(),
    };
    assert!(told.starts_with("needs the file system resctrl, which "), "{told}");
}
