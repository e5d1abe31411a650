//! How much machine there is and how much is offered; and with what it attests.

use std::{fs, path::Path};

use legation_agent::{
    AgentConfig,
    attester::{self, Attester as _, AttesterError, DevelopmentAttester},
    config::Development,
    resources::{Machine, RESERVE_MIN},
};
use legation_core::{Millicores, claims::KeyBinding, unit::Bytes};

use crate::world;

fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    dir
}

#[test]
fn a_machine_is_what_its_kernel_and_its_control_groups_leave() {
    let meminfo = ("proc/meminfo", "MemTotal:        4194304 kB\nMemFree: 1 kB\n");
    let own = ("proc/self/cgroup", "12:cpu:/x\n0::/pod/agent\n");
    for (name, files, cpu, memory) in [
        ("bare", vec![meminfo], 8000, Bytes::gib(4)),
        (
            "limited by its group",
            vec![
                meminfo,
                own,
                ("sys/fs/cgroup/pod/agent/memory.max", "1073741824\n"),
                ("sys/fs/cgroup/pod/agent/cpu.max", "150000 100000\n"),
            ],
            1500,
            Bytes::gib(1),
        ),
        (
            "limited by a group above",
            vec![
                meminfo,
                own,
                ("sys/fs/cgroup/pod/memory.max", "2147483648\n"),
                ("sys/fs/cgroup/pod/agent/memory.max", "max\n"),
                ("sys/fs/cgroup/cpu.max", "max 100000\n"),
            ],
            8000,
            Bytes::gib(2),
        ),
        (
            "in a namespace",
            vec![
                meminfo,
                ("proc/self/cgroup", "0::/\n"),
                ("sys/fs/cgroup/memory.max", "536870912"),
                ("sys/fs/cgroup/cpu.max", "50000 100000"),
            ],
            500,
            Bytes::mib(512),
        ),
        (
            "outside its namespace",
            vec![meminfo, ("proc/self/cgroup", "0::/../../x\n"), ("sys/fs/cgroup/memory.max", "536870912")],
            8000,
            Bytes::mib(512),
        ),
        (
            "nonsense",
            vec![meminfo, own, ("sys/fs/cgroup/pod/agent/cpu.max", "5 0\n"), ("sys/fs/cgroup/pod/memory.max", "many")],
            8000,
            Bytes::gib(4),
        ),
    ] {
        let dir = tree(&files);
        let got = Machine::within(Millicores(8000), dir.path());
        assert_eq!(got, Machine { cpu: Millicores(cpu), memory }, "{name}");
    }
}

#[test]
fn this_machine_has_something() {
    let machine = Machine::measure();
    assert!(machine.cpu.0 > 0 && machine.memory > Bytes::mib(64) && machine.memory < Bytes(u64::MAX), "{machine:?}");
}

fn config(capacity: &str) -> AgentConfig {
    let operator = world::key(1);
    let text = format!(
        "managers = [\"a:1\"]\nprovider = \"alder\"\nregion = \"eu\"\noperators = [\"{operator}\"]\n[rate]\n\
         core_hour_usd = \"0.04\"\ngib_hour_usd = \"0.01\"\n[capacity]\n{capacity}\n"
    );
    AgentConfig::parse(&text, Path::new("agent.toml")).unwrap()
}

#[test]
fn what_is_offered_is_there() {
    let machine = Machine { cpu: Millicores(2000), memory: Bytes::gib(4) };
    let offer = |text: &str| machine.offer(&config(text));
    let whole = offer("").unwrap();
    assert_eq!(whole.capacity.cpu, Millicores(2000));
    assert_eq!(whole.capacity.memory, Bytes::mib(4096 - 512));
    assert_eq!(whole.capacity.slots, 32);
    assert_eq!((whole.provider.as_str(), whole.operators.len()), ("alder", 1));

    let part = offer("cpu_millicores = 500\nmemory_mib = 100\nslots = 7").unwrap().capacity;
    assert_eq!((part.cpu, part.memory, part.slots), (Millicores(500), Bytes::mib(100), 7));
    assert_eq!(offer("memory_mib = 3968").unwrap().capacity.memory, Bytes::gib(4).saturating_sub(RESERVE_MIN));

    for (text, there, asked) in [
        ("cpu_millicores = 2001", "2.000 cores", "2.001 cores"),
        ("memory_mib = 3969", "3.8 GiB", "3.8 GiB"),
        ("memory_mib = 8192", "3.8 GiB", "8 GiB"),
    ] {
        let why = offer(text).unwrap_err();
        assert_eq!(why.check, "agent.capacity");
        assert!(why.expected.contains(there) && why.got.contains(asked), "{why}");
    }
    let tiny = Machine { cpu: Millicores(1000), memory: Bytes::mib(100) };
    assert_eq!(tiny.offer(&config("")).unwrap_err().check, "agent.capacity");
}

#[test]
fn an_agent_without_an_attester_is_told_what_was_looked_for() {
    let Err(error) = attester::choose(&config("")) else { panic!("found an attester") };
    assert!(matches!(error, AttesterError::None(_)));
    let told = error.to_string();
    assert!(told.contains("does not start without") && told.contains("set `chip` in `[development]`"), "{told}");
}

#[test]
fn a_chip_file_makes_an_attester_that_measures_this_program() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config("");
    config.development = Some(Development::Chip(dir.path().join("chip.pem")));
    assert!(matches!(attester::choose(&config), Err(AttesterError::Read { .. })));
    fs::write(dir.path().join("chip.pem"), "nonsense").unwrap();
    assert!(matches!(attester::choose(&config), Err(AttesterError::Chip { .. })));

    let pem = world::root().chip(7).to_pem().unwrap();
    fs::write(dir.path().join("chip.pem"), &*pem).unwrap();
    let chosen = attester::choose(&config).unwrap();
    let own = fs::read("/proc/self/exe").unwrap();
    assert_eq!(chosen.image(), legation_core::Digest::of(&own));

    let attester = DevelopmentAttester::open(&dir.path().join("chip.pem")).unwrap();
    assert_eq!(attester.kind(), legation_core::claims::TeeKind::DevSnp);
    let evidence = attester.attest(b"binding", b"configuration").unwrap();
    // Firmware ABI 56860 table 23: report data at 0x50, measurement at 0x90.
    assert_eq!(evidence.report[0x50..0x90], KeyBinding::report_data(b"binding"));
    assert_eq!(evidence.report[0x90..0xc0], attester.measurement()[..]);
    assert_eq!((&evidence.binding[..], &evidence.configuration[..]), (&b"binding"[..], &b"configuration"[..]));
}
