//! Receipts, where nothing else is: a file, the anchors, and the binary.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
};

use legation::{
    home::read_anchors,
    verify::{Answer, Reader, last_line, production_only, read_demands, verify},
};
use legation_attest::{Judge, Roots};
use legation_core::{
    Receipt,
    claims::{Anchors, DevelopmentAnchor, TpmAnchor, TpmKey},
};
use tempfile::TempDir;

use crate::world::{Ran, World, guest, program, templates, with_template};

/// An empty folder with a receipt of one echo and the anchors behind it, and nothing else.
struct Elsewhere(TempDir);

impl Elsewhere {
    async fn new() -> Self {
        // Made once for each build of the binary: receipts do not age.
        let lock = File::create(templates().join("receipt.lock")).unwrap();
        lock.lock().unwrap();
        let made = with_template("first", |template| template.join("receipt.json"));
        if !made.exists() {
            let world = World::started(&["aurora"]).await;
            let (input, receipt) = (world.file("input", "an input"), world.path("receipt.json"));
            let args = ["run", &guest("echo"), "--input", &input, "--receipt", &receipt];
            world.legation(&args).await.ended(0, &[]);
            fs::copy(receipt, &made).unwrap();
        }
        let dir = tempfile::tempdir().unwrap();
        fs::copy(&made, dir.path().join("receipt.json")).unwrap();
        fs::copy(made.with_file_name("anchors.json"), dir.path().join("anchors.json")).unwrap();
        Self(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self) -> Vec<u8> {
        fs::read(self.path("receipt.json")).unwrap()
    }

    fn anchors(&self) -> Anchors {
        read_anchors(&self.path("anchors.json")).unwrap()
    }

    fn write_anchors(&self, name: &str, anchors: &Anchors) {
        fs::write(self.path(name), serde_json::to_string(anchors).unwrap()).unwrap();
    }

    async fn legation(&self, args: &[&str]) -> Ran {
        program(self.0.path(), None, args).await
    }
}

#[tokio::test]
async fn a_receipt_is_verified_with_anchors_alone() {
    let elsewhere = Elsewhere::new().await;
    let development = "receipt valid (development: proves the protocol, not confidentiality): task ";
    let verified = elsewhere.legation(&["receipt", "verify", "receipt.json"]).await.ended(0, &[]).out();
    let last = verified.lines().last().unwrap();
    assert!(last.starts_with(development) && last.ends_with("completed; anchors development(local)"), "{last}");
    // Above it stands what ran: the task, its fragment, and who ran it.
    let tree: Vec<_> = verified.lines().take(3).collect();
    let [task, fragment, report] = tree.as_slice() else { panic!("{verified}") };
    assert!(
        task.starts_with("task ") && task.contains("1 fragments") && *fragment == "└─ fragment #0 `input`",
        "{verified}"
    );
    assert!(
        report.starts_with("   └─ report ") && report.contains(" at aurora, eu-north, dev-snp under "),
        "{verified}"
    );

    fs::rename(elsewhere.path("anchors.json"), elsewhere.path("trusted.json")).unwrap();
    let args = ["receipt", "verify", "receipt.json", "--anchors", "trusted.json"];
    assert_eq!(elsewhere.legation(&args).await.ended(0, &[]).out(), verified);
    elsewhere.legation(&args[..3]).await.ended(2, &["client.toml", "LEGATION_HOME"]);

    let args = ["receipt", "show", "receipt.json", "--anchors", "trusted.json"];
    let shown = elsewhere.legation(&args).await.ended(0, &[]).out();
    let shown: Vec<_> = shown.lines().filter(|line| !line.is_empty()).collect();
    let (links, text) = (&shown[1..shown.len() - 1], shown.join("\n"));
    for link in ["appointment", "passport", "request", "allocation", "grant", "report"] {
        assert!(links.iter().any(|line| line.split_whitespace().nth(1) == Some(link)), "no {link} in\n{text}");
    }
    // The report stands last, on allocation, passport and grant, which stand before it.
    let report = links.last().unwrap();
    let (number, rests) = (report.split_whitespace().next().unwrap(), report.split("<- ").nth(1).unwrap());
    let rests: Vec<u32> = rests.split(' ').map(|n| n.parse().unwrap()).collect();
    assert!(report.contains("report") && rests.len() == 3, "{text}");
    assert!(rests.iter().all(|n| *n < number.parse().unwrap()), "{text}");
    assert_eq!(shown.last(), Some(&last));

    for command in ["verify", "show"] {
        let args = ["receipt", command, "receipt.json", "--anchors", "trusted.json", "--output", "json"];
        let json = elsewhere.legation(&args).await.ended(0, &[]).json();
        assert_eq!((&json["verdict"], &json["standing"]), (&"valid".into(), &"valid-but-development".into()));
        assert_eq!(json["completed"], true);
        assert_eq!(json["links"].as_array().unwrap().len(), links.len());
    }
}

#[tokio::test]
async fn a_receipt_is_worth_what_the_anchors_are() {
    let elsewhere = Elsewhere::new().await;
    let trusted = elsewhere.anchors();
    let stranger = with_template("second", |template| read_anchors(&template.join("anchors.json")).unwrap());
    elsewhere.write_anchors("nobody.json", &Anchors::default());
    elsewhere.write_anchors("stranger.json", &stranger);
    let operators = trusted.operators.clone();
    elsewhere.write_anchors(
        "operator.json",
        &Anchors { operators, development: stranger.development.clone(), tpm: Vec::new(), logs: Vec::new() },
    );
    elsewhere.write_anchors("hardware.json", &Anchors { operators: stranger.operators, ..trusted.clone() });
    for (anchors, production, at) in [
        ("nobody.json", false, "appointment"),
        ("stranger.json", false, "appointment"),
        ("hardware.json", false, "appointment"),
        ("operator.json", false, "passport"),
        ("anchors.json", true, "passport"),
    ] {
        for command in ["verify", "show"] {
            let mut args = vec!["receipt", command, "receipt.json", "--anchors", anchors];
            args.extend(production.then_some("--production"));
            let out = elsewhere.legation(&args).await.ended(6, &[]).out();
            assert!(out.starts_with(&format!("receipt INVALID at {at}")), "{anchors}: {out}");
            assert_eq!(out.lines().count(), 1, "nothing of a receipt that is not valid is shown: {out}");
        }
    }
    let args = ["receipt", "verify", "receipt.json", "--production", "--output", "json"];
    let json = elsewhere.legation(&args).await.ended(6, &[]).json();
    assert_eq!(json["verdict"], "invalid");
    assert!(json["at"].as_str().unwrap().contains("passport") && json["why"]["check"].is_string(), "{json}");

    fs::write(elsewhere.path("broken.json"), "{\"operators\": [\"x\"]}").unwrap();
    for anchors in ["broken.json", "absent.json", "receipt.json"] {
        let args = ["receipt", "verify", "receipt.json", "--anchors", anchors];
        elsewhere.legation(&args).await.ended(2, &[anchors]);
    }
    // A file that cannot be read says nothing of a receipt.
    fs::create_dir(elsewhere.path("folder")).unwrap();
    for unread in ["absent.json", "folder"] {
        let ran = elsewhere.legation(&["receipt", "verify", unread]).await;
        ran.ended(10, &[&format!("cannot read {unread}")]);
    }
}

#[test]
fn production_leaves_no_development_root_of_any_kind() {
    let tpm = |name: &str, development| TpmAnchor {
        name: name.to_owned(),
        development,
        root: Vec::new(),
        key: TpmKey::default(),
        attests: false,
        google: false,
    };
    let mut anchors = Anchors {
        development: vec![DevelopmentAnchor { name: "local".to_owned(), ark: Vec::new() }],
        tpm: vec![tpm("emulator", true), tpm("maker", false)],
        ..Anchors::default()
    };
    production_only(&mut anchors);
    assert_eq!(anchors, Anchors { tpm: vec![tpm("maker", false)], ..Anchors::default() });
}

#[tokio::test]
async fn a_receipt_that_was_touched_is_not_valid() {
    let elsewhere = Elsewhere::new().await;
    let text = elsewhere.text();
    let middle = text.len() / 2;
    let change = |name: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let mut text = text.clone();
        change(&mut text);
        fs::write(elsewhere.path(name), text).unwrap();
        name.to_owned()
    };
    let pretty: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let changed = [
        change("first", &|t| t[0] ^= 1),
        change("middle", &|t| t[middle] ^= 1),
        change("last", &|t| *t.last_mut().unwrap() ^= 1),
        change("shorter", &|t| t.truncate(t.len() - 1)),
        change("longer", &|t| t.push(b'\n')),
        change("half", &|t| t.truncate(middle)),
        change("pretty", &|t| *t = serde_json::to_vec_pretty(&pretty).unwrap()),
        change("empty", &Vec::clear),
        change("nothing", &|t| *t = b"{}\n".to_vec()),
        change("binary", &|t| t.fill(0xff)),
    ];
    for name in &changed {
        let out = elsewhere.legation(&["receipt", "verify", name]).await.ended(6, &[]).out();
        assert!(out.starts_with("receipt INVALID at "), "{name}: {out}");
    }
    elsewhere.legation(&["receipt", "verify", "receipt.json"]).await.ended(0, &[]);
}

#[tokio::test]
async fn no_byte_of_a_receipt_can_change() {
    let elsewhere = Elsewhere::new().await;
    let (text, anchors) = (elsewhere.text(), elsewhere.anchors());
    let judge = Judge::new(Roots::new(&anchors).unwrap());
    let holds = |text: &[u8]| Receipt::from_text(text).is_ok_and(|receipt| receipt.verify(&anchors, &judge).is_ok());
    assert!(holds(&text));
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                let mut changed = text.clone();
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= text.len() {
                        return;
                    }
                    // The lowest bit changes a digit or a letter into its neighbour: most often the text is still JSON.
                    changed[at] ^= 1;
                    assert!(!holds(&changed), "byte {at} can be {:?}", char::from(changed[at]));
                    changed[at] ^= 1;
                }
            });
        }
    });
}

#[tokio::test]
async fn what_is_said_of_a_receipt_is_the_same_in_library_and_binary() {
    let elsewhere = Elsewhere::new().await;
    let said = async |path: &Path| {
        let out = elsewhere.legation(&["receipt", "verify", path.to_str().unwrap()]).await.out();
        out.lines().last().unwrap_or_default().to_owned()
    };
    let answer = verify(&elsewhere.text(), &elsewhere.anchors(), None).unwrap();
    assert!(matches!(answer, Answer::Valid(_)));
    assert_eq!(said(&elsewhere.path("receipt.json")).await, last_line(&answer));
    let answer = verify(b"{}", &elsewhere.anchors(), None).unwrap();
    fs::write(elsewhere.path("none.json"), "{}").unwrap();
    assert_eq!(said(&elsewhere.path("none.json")).await, last_line(&answer));
}

/// Demands that the receipt of one echo in `aurora` meets.
const MET: &str = r#"
    anchors = ["development(local)", "production(amd-milan)"]
    tee = ["dev-snp"]
    providers = ["aurora"]
    regions = ["eu-north"]
    jurisdictions = ["eu"]
    assurance = "attested"
    maximum_proof_age = 3600
    maximum_depth = 0
    completed = true
"#;

#[tokio::test]
async fn a_reader_demands_more_than_that_a_receipt_is_valid() {
    let elsewhere = Elsewhere::new().await;
    let write = |name: &str, text: &str| fs::write(elsewhere.path(name), text).unwrap();
    let verify = async |policy: &str, more: &[&str]| {
        let args = [&["receipt", "verify", "receipt.json", "--policy", policy][..], more].concat();
        elsewhere.legation(&args).await
    };
    write("met.toml", MET);
    let out = verify("met.toml", &[]).await.ended(0, &[]).out();
    assert!(out.lines().last().unwrap().starts_with("receipt valid ("), "{out}");

    // Every demand that is not met is named, in whichever form it was written.
    write(
        "unmet.toml",
        "tee = [\"sev-snp\"]\nregions = [\"us-east\"]\nlog = true\nassurance = { replicated = { k = 3, diverse = \"provider\" } }",
    );
    write(
        "unmet.json",
        r#"{"tee":["sev-snp"],"regions":["us-east"],"log":true,"assurance":{"replicated":{"k":3,"diverse":"provider"}}}"#,
    );
    for policy in ["unmet.toml", "unmet.json"] {
        let out = verify(policy, &[]).await.ended(9, &[]).out();
        let unmet: Vec<_> = out.lines().filter_map(|line| line.strip_prefix("not met: ")).collect();
        let checks: Vec<_> = unmet.iter().filter_map(|line| line.split(':').next()).collect();
        assert_eq!(checks, ["demand.tee", "demand.regions", "demand.assurance", "demand.log"], "{out}");
        let last = out.lines().last().unwrap();
        assert!(last.starts_with("receipt REFUSED by its reader's policy, 4 demands are not met"), "{last}");
        let json = verify(policy, &["--json"]).await.ended(9, &[]).json();
        assert_eq!((&json["verdict"], &json["exit"]), (&"unmet".into(), &9.into()));
        assert_eq!((json["unmet"].as_array().unwrap().len(), &json["log"]["state"]), (4, &"absent".into()), "{json}");
        assert_eq!(json["executions"][0]["provider"], "aurora");
    }
    let unmet = read_demands(&elsewhere.path("unmet.toml")).unwrap();
    assert_eq!(read_demands(&elsewhere.path("unmet.json")).unwrap(), unmet);
    let anchors = elsewhere.anchors();
    let reader = Reader { demands: Some(&unmet), ..Reader::new(&anchors) };
    let judgement = reader.judge_file(&elsewhere.path("receipt.json")).unwrap();
    assert_eq!((judgement.unmet.len(), judgement.word()), (4, "unmet"));

    // An invalid receipt is invalid, whatever is demanded; and a policy that cannot be meant is no policy.
    verify("met.toml", &["--production"]).await.ended(6, &[]);
    for (name, text) in [
        ("unknown.toml", "tee = [\"dev-snp\"]\ncolour = \"blue\""),
        ("twice.toml", "log = true\nlog = true"),
        ("kind.toml", "tee = [\"snp\"]"),
        ("none.toml", "tee = []"),
        ("nothing.toml", "# nothing"),
        ("anchor.toml", "anchors = [\"local\"]"),
        ("toml.json", "log = true"),
        ("json.toml", "{\"log\":true}"),
        ("binary.toml", "\u{0}"),
    ] {
        write(name, text);
        verify(name, &[]).await.ended(2, &[name]);
    }
    verify("absent.toml", &[]).await.ended(2, &["absent.toml"]);
}

#[tokio::test]
async fn what_is_too_large_to_be_a_receipt_is_refused_unread() {
    let elsewhere = Elsewhere::new().await;
    // A gigabyte that takes no room, and a file without an end.
    File::create(elsewhere.path("large.json")).unwrap().set_len(1 << 30).unwrap();
    for (file, size) in [("large.json", "1073741824 bytes"), ("/dev/zero", "67108865 bytes")] {
        let args = ["receipt", "verify", file];
        let out = elsewhere.legation(&args).await.ended(6, &[]).out();
        let wanted = format!(
            "receipt INVALID at the file: receipt.size: size of the receipt; expected at most 67108864 bytes; got {size}"
        );
        assert_eq!(out.trim_end(), wanted);
        let json = elsewhere.legation(&[&args[..], &["--json"]].concat()).await.ended(6, &[]).json();
        assert_eq!((&json["verdict"], &json["at"]), (&"invalid".into(), &"the file".into()));
        assert_eq!(json["why"]["check"], "receipt.size");
    }
}
