//! The configuration file: what is read from it, and what every mistake in it is told.

use std::{path::Path, time::Duration};

use legation_agent::{
    AgentConfig,
    config::{AttesterConfig, Choice, CustodyConfig, Development, Reconnect, Tcti, TpmConfig},
    state::StateConfig,
};
use legation_core::{MicroUsd, Millicores, claims::TpmKey, unit::Bytes};

const KEY: &str = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=";

fn whole() -> String {
    format!(
        "managers = [\"pool.example.org:7443\", \"[::1]:1\"]\nprovider = \"alder\"\nregion = \"eu-north\"\n\
         operators = [\"{KEY}\"]\n[rate]\ncore_hour_usd = \"0.04\"\ngib_hour_usd = \"12.000005\"\n"
    )
}

fn parse(text: &str) -> Result<AgentConfig, String> {
    AgentConfig::parse(text, Path::new("/etc/legation/agent.toml")).map_err(|e| e.to_string())
}

#[test]
fn a_whole_file_is_read_exactly() {
    let config = parse(&whole()).unwrap();
    assert_eq!(config.managers, ["pool.example.org:7443", "[::1]:1"]);
    assert_eq!((config.provider.as_str(), config.region.as_str()), ("alder", "eu-north"));
    assert_eq!((config.rate.core_hour, config.rate.gib_hour), (MicroUsd(40_000), MicroUsd(12_000_005)));
    assert_eq!(config.operators[0].to_string(), KEY);
    assert_eq!(
        (config.slot, config.attester, config.tpm, config.development),
        (0, AttesterConfig::default(), None, None)
    );
    assert_eq!(config.reconnect, Reconnect::default());

    let more = "[capacity]\ncpu_millicores = 1500\nmemory_mib = 64\nslots = 3\n[development]\nchip = \"keys/chip.pem\"\n\
                [reconnect]\nfirst_ms = 5\nlongest_s = 6\nrefused_s = 7\n[drain]\nlongest_s = 8\n";
    let config = parse(&(whole() + more)).unwrap();
    assert_eq!(config.capacity.cpu, Some(Millicores(1500)));
    assert_eq!((config.capacity.memory, config.capacity.slots), (Some(Bytes::mib(64)), Some(3)));
    assert_eq!(config.development, Some(Development::Chip("/etc/legation/keys/chip.pem".into())));
    assert_eq!((config.reconnect.first, config.drain), (Duration::from_millis(5), Duration::from_secs(8)));
    assert_eq!(config.reconnect.refused, Duration::from_secs(7));
}

#[test]
fn who_takes_channels_of_others_says_where() {
    let both = "listen = \"0.0.0.0:7444\"\nadvertise = \"node.example.org:7444\"\n";
    let config = parse(&(both.to_owned() + &whole())).unwrap();
    assert_eq!(config.listen.as_deref(), Some("0.0.0.0:7444"));
    assert_eq!(config.advertise.as_deref(), Some("node.example.org:7444"));
    assert_eq!(parse(&whole()).unwrap().listen, None, "nobody is let in by default");
    let long = format!("listen = \"a:1\"\nadvertise = \"{}:1\"\n", "a".repeat(254));
    for (text, key) in [
        ("listen = \"a:1\"\n", "listen: expected `advertise` beside it"),
        ("advertise = \"a:1\"\n", "advertise: expected `listen` beside it"),
        ("listen = \"a\"\nadvertise = \"a:1\"\n", "listen: expected an address"),
        (long.as_str(), "advertise: expected at most 255 bytes"),
    ] {
        let told = parse(&(text.to_owned() + &whole())).unwrap_err();
        assert!(told.contains(key), "{told}");
    }
}

#[test]
fn what_proves_is_configured_whole_and_where_calls_come_from() {
    let listens = "listen = \"0.0.0.0:7444\"\nadvertise = \"node.example.org:7444\"\n";
    let prover = "[prover]\nprogram = \"bin/legation-prover\"\nguest = \"guest.elf\"\npinned = \"PINNED.json\"\n\
                  keys = \"keys\"\nfolder = \"/run/prover\"\nmemory_mib = 8192\ninstructions_max = 20000000\n";
    let config = parse(&format!("{listens}{}{prover}", whole())).unwrap().prover.unwrap();
    assert_eq!(config.program, Path::new("/etc/legation/bin/legation-prover"));
    assert_eq!((config.folder.as_path(), config.memory), (Path::new("/run/prover"), Bytes::gib(8)));
    assert_eq!((config.instructions, config.longest.as_secs(), config.estimate.as_secs()), (20_000_000, 3600, 60));
    assert_eq!(parse(&whole()).unwrap().prover, None, "nothing is proven by default");
    for (text, told) in [
        (format!("{}{prover}", whole()), "prover: expected `listen` and `advertise` beside it"),
        (format!("{listens}{}{}", whole(), prover.replace("memory_mib = 8192\n", "")), "prover.memory_mib: expected"),
        (format!("{listens}{}{}", whole(), prover.replace("20000000", "0")), "prover.instructions_max: expected"),
        (format!("{listens}{}{prover}threads = 2\n", whole()), "prover.threads"),
        (format!("{listens}{}{}", whole(), prover.replace("keys = \"keys\"\n", "")), "prover.keys: expected the path"),
    ] {
        let why = parse(&text).unwrap_err();
        assert!(why.contains(told), "{why}");
    }
}

#[test]
fn a_custodian_says_of_which_key_and_where_it_is_reached() {
    let listens = "listen = \"0.0.0.0:7444\"\nadvertise = \"node.example.org:7444\"\n";
    let custody = "[custody]\nswarm = \"main\"\n";
    let state = "[state]\ndir = \"custody\"\n";
    let config = parse(&format!("{listens}{}{custody}{state}", whole())).unwrap();
    let (swarm, dir) = (legation_core::SwarmName::new("main").unwrap(), "/etc/legation/custody".into());
    assert_eq!(config.custody, Some(CustodyConfig { swarm, alone: false }));
    assert_eq!(config.state, Some(StateConfig { dir }));
    let alone = parse(&format!("{listens}{}{custody}alone = true\n", whole())).unwrap();
    assert!(alone.custody.unwrap().claim().alone && alone.state.is_none());
    let plain = parse(&whole()).unwrap();
    assert!(plain.custody.is_none() && plain.state.is_none(), "nobody is a custodian by default");
    for (text, told) in [
        (format!("{}{custody}", whole()), "custody: expected `listen` and `advertise` beside it"),
        (format!("{listens}{}{state}", whole()), "state: expected `[custody]` beside it"),
        (format!("{listens}{}[custody]\nalone = true\n", whole()), "custody.swarm: expected the name of a swarm key"),
        (format!("{listens}{}[custody]\nswarm = \"Main\"\n", whole()), "custody.swarm: expected the name"),
        (format!("{listens}{}{custody}alone = \"yes\"\n", whole()), "custody.alone: expected true or false"),
        (
            format!("{listens}{}{custody}anchors = \"a.json\"\n", whole()),
            "custody.anchors: expected one of swarm, alone",
        ),
        (format!("{listens}{}{custody}[state]\ndir = 7\n", whole()), "state: expected `dir`"),
    ] {
        let why = parse(&text).unwrap_err();
        assert!(why.contains(told), "{why}");
    }
}

#[test]
fn what_attests_may_be_named() {
    let more = "[attester]\nkind = \"tpm\"\nvcek = \"vcek.pem\"\n\
                [tpm]\ntcti = \"device:/dev/tpmrm1\"\nregisters = [8, 14]\nkey = \"ecc-p256\"\nchain = \"ek.pem\"\n\
                [development]\ntpm = \"swtpm:host=127.0.0.1,port=2321\"\ntpm_chain = \"issuer.pem\"\n";
    let config = parse(&(format!("slot = 3\n{}", whole()) + more)).unwrap();
    assert_eq!((config.slot, config.attester.kind), (3, Choice::Only(legation_core::claims::TeeKind::Tpm)));
    assert_eq!(config.attester.vcek.as_deref(), Some(Path::new("/etc/legation/vcek.pem")));
    let chain = Some("/etc/legation/ek.pem".into());
    let (tcti, key) = (Tcti::Device("/dev/tpmrm1".into()), TpmKey::EccP256);
    assert_eq!(config.tpm, Some(TpmConfig { tcti, registers: vec![8, 14], key, chain }));
    let Some(Development::Tpm(tpm)) = config.development else { panic!("no emulator") };
    assert_eq!((tpm.tcti.to_string().as_str(), tpm.key), ("swtpm:host=127.0.0.1,port=2321", TpmKey::EccP384));
    let plain = parse(&(whole() + "[tpm]\ntcti = \"device:/dev/tpm0\"\n")).unwrap();
    assert_eq!(plain.tpm.map(|tpm| tpm.key), Some(TpmKey::Rsa2048), "nearly every TPM has one");
    assert_eq!(tpm.chain.as_deref(), Some(Path::new("/etc/legation/issuer.pem")));
}

#[test]
fn prices_are_exact_or_refused() {
    for (text, micro) in [
        ("0", Ok(0)),
        ("0.000001", Ok(1)),
        ("1.5", Ok(1_500_000)),
        ("007.10", Ok(7_100_000)),
        ("1000000", Ok(1_000_000_000_000)),
        ("1000000.000001", Err(())),
        ("0.0000001", Err(())),
        ("1.", Err(())),
        (".5", Err(())),
        ("-1", Err(())),
        ("+1", Err(())),
        ("1e3", Err(())),
        ("1,5", Err(())),
        ("", Err(())),
        ("99999999999999999999", Err(())),
    ] {
        let got = parse(&whole().replace("\"0.04\"", &format!("\"{text}\""))).map(|c| c.rate.core_hour.0);
        assert_eq!(got.as_ref().map_err(|_| &()), micro.as_ref(), "{text}: {got:?}");
        if let Err(told) = got {
            assert!(told.contains("agent.toml: rate.core_hour_usd: expected a price in dollars"), "{told}");
        }
    }
}

#[test]
fn every_mistake_names_file_key_and_what_to_do() {
    let w = whole;
    for (text, key, told) in [
        (w().replace("provider", "owner"), "provider", "add the key"),
        (format!("colour = 1\n{}", w()), "colour", "unknown key"),
        (w() + "[capacity]\ncores = 1\n", "capacity.cores", "cpu_millicores, memory_mib, slots"),
        (w() + "[capacity]\nslots = 0\n", "capacity.slots", "from 1 to 384"),
        (w() + "[capacity]\nslots = 385\n", "capacity.slots", "got 385"),
        (w() + "[capacity]\nslots = \"3\"\n", "capacity.slots", "without quotes"),
        (w() + "[capacity]\nmemory_mib = -1\n", "capacity.memory_mib", "got -1"),
        (w().replace("\"0.04\"", "0.04"), "rate.core_hour_usd", "put the value in quotes"),
        (w().replace("[rate]", "[prices]"), "rate", "expected a table"),
        (w().replace("\"alder\"", "\"Alder Inc\""), "provider", "1 to 63 of a-z"),
        (w().replace(KEY, "abc"), "operators", "base64 of 32 bytes"),
        (w().replace(&format!("[\"{KEY}\"]"), "[]"), "operators", "got 0 of them"),
        (w().replace(&format!("[\"{KEY}\"]"), "3"), "operators", "in brackets"),
        (w().replace("pool.example.org:7443", "pool.example.org"), "managers", "not `host:port`"),
        (w().replace("pool.example.org:7443", "a:0"), "managers", "not `host:port`"),
        (w().replace("pool.example.org:7443", "a b:1"), "managers", "not `host:port`"),
        (w() + "[development]\nchips = \"x\"\n", "development.chip", "add the key"),
        (w() + "[development]\nchip = \"x\"\nroot = \"y\"\n", "development.root", "one of chip"),
        (w() + "[development]\nchip = \"x\"\ntpm = \"device:/dev/tpm0\"\n", "development.chip", "remove one of them"),
        (w() + "[development]\ntpm_chain = \"x\"\n", "development.chip", "add the key"),
        (w() + "[development]\ntpm = \"swtpm:path=/run/tpm\"\n", "development.tpm", "by host and port only"),
        (w() + "[tpm]\nregisters = [8]\n", "tpm.tcti", "add the key"),
        (w() + "[tpm]\ntcti = \"device:tpm0\"\n", "tpm.tcti", "`device:tpm0`"),
        (w() + "[tpm]\ntcti = \"swtpm:host=a b,port=1\"\n", "tpm.tcti", "swtpm:host=127.0.0.1,port=2321"),
        (w() + "[tpm]\ntcti = \"swtpm:host=a,port=65535\"\n", "tpm.tcti", "port=65535"),
        (w() + "[tpm]\ntcti = \"device:/dev/tpm0\"\nregisters = [24]\n", "tpm.registers", "from 0 to 23"),
        (w() + "[tpm]\ntcti = \"device:/dev/tpm0\"\nregisters = [-1]\n", "tpm.registers", "got -1"),
        (w() + "[tpm]\ntcti = \"device:/dev/tpm0\"\nregisters = [8, 16]\n", "tpm.registers", "got 16"),
        (w() + "[tpm]\ntcti = \"device:/dev/tpm0\"\nregisters = [23]\n", "tpm.registers", "only a restart resets"),
        (w() + "[tpm]\ntcti = \"device:/dev/tpm0\"\nkey = \"rsa\"\n", "tpm.key", "one of rsa-2048, ecc-p256, ecc-p384"),
        (
            w() + "[attester]\nkind = \"sgx\"\n",
            "attester.kind",
            "auto, or one of sev-snp, tdx, nitro, tpm, dev-snp, dev-tpm",
        ),
        (w() + "[attester]\nvcek = \"\"\n", "attester.vcek", "got nothing"),
        (format!("slot = 65536\n{}", w()), "slot", "from 0 to 65535"),
        (w() + "[reconnect]\nfirst_ms = 0\n", "reconnect.first_ms", "from 1 to 60000"),
        (format!("reconnect = 3\n{}", w()), "reconnect", "write it as `[reconnect]`"),
    ] {
        let error = parse(&text).unwrap_err();
        assert!(error.starts_with(&format!("/etc/legation/agent.toml: {key}: expected ")), "{error}");
        assert!(error.contains(told), "{error} lacks `{told}`");
    }
    let error = parse("managers = [").unwrap_err();
    assert!(error.starts_with("/etc/legation/agent.toml: not TOML: TOML parse error at line 1"), "{error}");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("agent.toml");
    assert!(AgentConfig::read(&file).unwrap_err().to_string().contains("agent.toml: cannot be read"));
    std::fs::write(&file, vec![b'#'; 70_000]).unwrap();
    assert!(AgentConfig::read(&file).unwrap_err().to_string().contains("70000 bytes"));
    std::fs::write(&file, whole()).unwrap();
    assert!(AgentConfig::read(&file).is_ok());
}
