//! Collateral at a running manager: lists are imported and count, a source that is away is told loudly and with a date, and
//! without a grace nothing that is over is taken.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::PathBuf,
};

use legation::run::now;
use legation_attest::{
    dev::{ChipSpec, DevelopmentRoot},
    snp::{Product, TcbVersion},
};
use legation_core::{UnixTime, claims::Anchors};
use legation_keys::Entropy;
use legation_net::OsEntropy;
use legation_pool::{EnclaveView, Presence};
use legation_verifier::{
    collateral::{SourceConfig, SourceKind},
    config::CollateralConfig,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::world::{SOON, World, eventually, guest, templates};

const DAY: u64 = 86_400;
/// The list of the root that boreal's chip is of in these tests.
const LIST: &str = "dev/second/crl";
/// Beside the ports that a world has on its own address.
const PORT: u16 = 24_445;

/// A root whose keys are at hand, to sign lists with: made once, since its keys take seconds to make.
fn root() -> DevelopmentRoot {
    let (folder, file) = (templates(), templates().join("second-root.pem"));
    let lock = File::create(folder.join("second-root.lock")).unwrap();
    lock.lock().unwrap();
    if let Some(root) = fs::read(&file).ok().and_then(|pem| DevelopmentRoot::from_pem(&pem).ok()) {
        return root;
    }
    let root = DevelopmentRoot::generate("second", now()).unwrap();
    fs::write(&file, &*root.to_pem().unwrap()).unwrap();
    root
}

/// A world whose boreal has a chip of another root than the others.
struct Two {
    world: World,
    root: DevelopmentRoot,
}

impl Two {
    fn new(collateral: impl FnOnce(&World, &mut CollateralConfig)) -> Self {
        let (world, root) = (World::new(&["aurora", "boreal"]), root());
        let mut chip_id = [0; 64];
        OsEntropy.fill(&mut chip_id);
        let tcb = TcbVersion { fmc: None, bootloader: 4, tee: 0, snp: 24, microcode: 219 };
        let chip = root.issue(&ChipSpec { product: Product::Milan, chip_id, tcb }, now()).unwrap();
        fs::write(world.agent_file("boreal").with_file_name("chip.pem"), &*chip.to_pem().unwrap()).unwrap();
        for file in [world.root.join("anchors.json"), world.deployment().client.join("anchors.json")] {
            let mut anchors: Anchors = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
            anchors.development.push(root.anchor());
            fs::write(&file, serde_json::to_vec(&anchors).unwrap()).unwrap();
        }
        world.manager_config(|config| {
            let mut kept = CollateralConfig::folder("collateral".into());
            collateral(&world, &mut kept);
            config.collateral = Some(kept);
        });
        Self { world, root }
    }

    fn folder(&self) -> PathBuf {
        self.world.root.join("manager/collateral")
    }

    /// A list that was issued so long ago, and is due so long after.
    fn list(&self, age: u64, life: u64) -> Vec<u8> {
        self.root.revocation_list(&[], now().minus(age), life).unwrap()
    }

    /// Puts a list where the manager keeps it, as if it had been found there; gives when it is due.
    fn lies_there(&self, age: u64, life: u64) -> UnixTime {
        let items = self.folder().join("items");
        fs::create_dir_all(&items).unwrap();
        let issued = now().minus(age);
        let list = self.root.revocation_list(&[], issued, life).unwrap();
        fs::write(items.join(LIST.replace('/', "+")), list).unwrap();
        issued.plus(life)
    }

    /// Runs `legation collateral import` beside the manager.
    async fn import(&self, name: &str, list: &[u8]) -> crate::world::Ran {
        let (file, manager) = (self.world.file("list.crl", list), self.world.path("manager/manager.toml"));
        let args = ["collateral", "import", "--config", &manager, &file, "--name", name];
        self.world.legation(&args).await
    }

    /// What `legation collateral status` prints of the running manager, once it has these words.
    async fn says(&self, words: &[&str]) -> crate::world::Ran {
        let look = async || {
            let ran = self.world.legation(&["collateral", "status"]).await;
            let all = ran.out();
            let line = all.lines().map(str::trim_start).find(|l| l.starts_with(LIST)).unwrap_or_default();
            words.iter().all(|word| line.contains(word)).then_some(ran)
        };
        eventually(&format!("the list is {words:?}"), SOON, look).await
    }

    async fn enclave(&self, name: &str) -> EnclaveView {
        self.world.client().enclave(self.world.enclave(name).await).await.unwrap()
    }
}

#[tokio::test]
async fn a_list_that_is_imported_counts_at_a_running_manager() {
    let mut two = Two::new(|_, _| ());
    let said = ["nothing is kept and nothing is wanted"];
    two.world.start().await;
    let first = two.world.legation(&["collateral", "status"]).await.ended(0, &[]).out();
    assert!(first.contains(said[0]), "{first}");

    // What is not what its name says does not get in.
    let good = two.list(100, 30 * DAY);
    let mut flipped = good.clone();
    let end = flipped.len() - 5;
    flipped[end] ^= 1;
    for (name, list, check) in [
        (LIST, &flipped, "collateral.signature"),
        ("dev/local/crl", &good, "collateral.subject"),
        ("amd/milan/vcek/crl", &good, "collateral.signature"),
        (LIST, &b"<html>".to_vec(), "collateral.form"),
    ] {
        two.import(name, list).await.ended(3, &[check]);
    }
    two.world.legation(&["collateral", "import", "--dir", "nowhere", "x", "--name", LIST]).await.ended(2, &["nowhere"]);

    // The manager takes up what does, and shows it as it is.
    let (folder, anchors) = (two.folder().to_str().unwrap().to_owned(), two.world.path("anchors.json"));
    let file = two.world.file("good.crl", &good);
    let args = ["collateral", "import", "--dir", &folder, "--anchors", &anchors, &file, "--name", LIST];
    two.world.legation(&args).await.ended(0, &["dev/second/crl is here"]);
    two.import(LIST, &two.list(200, 60 * DAY)).await.ended(3, &["collateral.older"]);
    let ran = two.says(&["fresh", " 29 ", "import "]).await.ended(0, &[]);
    assert!(ran.stderr.is_empty(), "nothing to warn of: {}", ran.stderr);
    let items = two.world.legation(&["collateral", "status", "--output", "json"]).await.ended(0, &[]).json();
    let due = items[0]["issued"].as_u64().unwrap() + 30 * DAY;
    assert_eq!((items[0]["state"].as_str(), items[0]["next_update"].as_u64()), (Some("fresh"), Some(due)), "{items}");
    assert_eq!(two.enclave("boreal").await.presence, Presence::Here);

    // A list that names what boreal's chip rests on takes boreal out, and nobody else.
    let serial = two.root.ask_serial();
    let list = two.root.revocation_list(&[serial], now().minus(10), 30 * DAY).unwrap();
    two.import(LIST, &list).await.ended(0, &["dev/second/crl is here"]);
    let boreal = two.world.enclave("boreal").await;
    let out = eventually("boreal is out", SOON, async || {
        let view = two.world.client().enclave(boreal).await.ok()?;
        view.cordon.is_some().then_some(view)
    });
    let why = out.await.cordon.unwrap().why;
    assert!(why.check == "snp.crl" && why.fix.contains("revoked"), "{why:?}");
    let shown = two.world.legation(&["enclave", "show", &boreal.to_string()]).await.ended(0, &[]).out();
    assert!(shown.contains("state        cordoned") && shown.contains("snp.crl"), "{shown}");
    let aurora = two.enclave("aurora").await;
    assert!(aurora.presence == Presence::Here && aurora.cordon.is_none(), "{aurora:?}");
    two.world.legation(&["run", &guest("noop")]).await.ended(0, &[]);
}

/// Answers every request on `address` with `body`, until the test ends.
async fn mirror(address: SocketAddr, body: Vec<u8>) {
    let listener = TcpListener::bind(address).await.unwrap();
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            let mut asked = Vec::new();
            while !asked.windows(4).any(|end| end == b"\r\n\r\n") {
                if tcp.read_buf(&mut asked).await.unwrap_or(0) == 0 {
                    break;
                }
            }
            let known = asked.starts_with(format!("GET /{LIST} ").as_bytes());
            let status = if known { "200 OK" } else { "404 Not Found" };
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            let _ = tcp.write_all(&[head.as_bytes(), &body].concat()).await;
        }
    });
}

#[tokio::test]
async fn a_source_that_is_away_means_a_dated_grace_and_a_loud_warning() {
    let at = |world: &World| SocketAddr::new(world.deployment().addresses.api.ip(), PORT);
    let mut two = Two::new(|world, kept| {
        let urls = vec![format!("http://{}", at(world))];
        kept.sources = vec![SourceConfig { kind: SourceKind::Mirror, urls, dir: None, root_list: None }];
        kept.keep = vec![LIST.to_owned()];
    });
    let due = two.lies_there(28 * DAY, 28 * DAY - 3600);
    let until = due.plus(7 * DAY).to_string();
    two.world.start().await;

    // The log, the status, and the enclave that rests on it: all say so, with the day of its end and what the source said.
    let (due_words, source) = (format!("its next update of {due}"), format!("http://{}", at(&two.world)));
    let words = ["WARN", "collateral dev/second/crl is past", &due_words, &until, &source];
    two.world.logs("manager", &words, SOON).await;
    let ran = two.says(&[&format!("stale-in-grace until {until}")]).await.ended(0, &[]);
    let warning = ran.stderr.lines().find(|l| l.starts_with("warning: collateral dev/second/crl is past"));
    let warning = warning.unwrap_or_else(|| panic!("{ran:?}"));
    for words in [&due_words, &format!("machines that need it are refused from {until} on"), &source] {
        assert!(warning.contains(words), "no `{words}` in {warning}");
    }
    let boreal = two.enclave("boreal").await;
    assert!(boreal.presence == Presence::Here && boreal.cordon.is_none(), "{boreal:?}");
    assert_eq!(boreal.proofs[0].stale_since, Some(due));
    let shown = two.world.legation(&["enclave", "show", &boreal.enclave.to_string()]).await.ended(0, &[]).out();
    assert!(shown.contains(&format!("stale        collateral was due for renewal at {due}")), "{shown}");
    assert_eq!(two.enclave("aurora").await.proofs[0].stale_since, None);
    // It is still taken.
    let args = ["run", &guest("noop"), "--require", "provider == \"boreal\""];
    two.world.legation(&args).await.ended(0, &[]);

    let manager = two.world.path("manager/manager.toml");
    let args = ["collateral", "fetch", "--config", &manager, LIST];
    two.world.legation(&args).await.ended(3, &["collateral.unavailable", &source, "legation collateral import"]);

    // The source answers: the list is current, and with the next proof so is the enclave.
    mirror(at(&two.world), two.list(60, 28 * DAY)).await;
    let ran = two.says(&["fresh", "mirror http://"]).await.ended(0, &[]);
    assert!(ran.stderr.is_empty(), "{}", ran.stderr);
    two.world.logs("manager", &["collateral is current again", LIST], SOON).await;
    two.world.legation(&["enclave", "reattest", &boreal.enclave.to_string()]).await.ended(0, &[]);
    eventually("boreal rests on the new list", SOON, async || {
        let view = two.world.client().enclave(boreal.enclave).await.ok()?;
        (view.proven > boreal.proven && view.proofs[0].stale_since.is_none()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn without_a_grace_what_is_over_is_refused_until_there_is_a_newer_one() {
    let mut two = Two::new(|_, kept| kept.grace_days = 0);
    let due = two.lies_there(28 * DAY, 28 * DAY - 3600);
    two.world.cloud.start().unwrap();
    two.world.ready(1).await;
    let refused = eventually("boreal is refused", SOON, async || {
        two.world.operator().refusals(None).await.ok()?.into_iter().find(|r| r.why.check == "snp.crl")
    });
    let why = refused.await.why;
    assert!(why.expected.contains(&due.to_string()) && why.fix.contains("fetch the list again"), "{why:?}");
    two.world.logs("boreal", &["turned away", "snp.crl"], SOON).await;
    let past = format!("past its next update of {due} and past the grace: machines that need it are refused");
    two.says(&["expired"]).await.ended(3, &["warning: collateral dev/second/crl is ", &past]);
    assert_eq!(two.world.client().pool().await.unwrap().enclaves_here, 1);
    two.world.legation(&["run", &guest("noop")]).await.ended(0, &[]);

    two.import(LIST, &two.list(60, 28 * DAY)).await.ended(0, &["dev/second/crl is here"]);
    two.world.ready(2).await;
    two.says(&["fresh"]).await.ended(0, &[]);
    assert_eq!(two.enclave("boreal").await.proofs[0].stale_since, None);
}
