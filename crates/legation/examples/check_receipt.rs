//! Checks a receipt from Rust, offline: `cargo run -p legation --example check_receipt RECEIPT ANCHORS`. docs/receipt.md shows it.

use std::{error::Error, path::Path, process::ExitCode};

use legation::{
    home::read_anchors,
    verify::{Answer, Reader},
};
use legation_core::{claims::TeeKind, receipt::Demands};

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, receipt, anchors] = args.as_slice() else { return Err("usage: check_receipt RECEIPT ANCHORS".into()) };
    let anchors = read_anchors(Path::new(anchors))?;
    let demands = Demands {
        tee: Some(vec![TeeKind::SevSnp, TeeKind::Tdx]),
        maximum_proof_age: Some(600),
        completed: true,
        ..Demands::default()
    };
    let reader = Reader { demands: Some(&demands), ..Reader::new(&anchors) };
    let judgement = reader.judge_file(Path::new(receipt))?;
    if let Answer::Valid(verdict) = &judgement.answer {
        for ran in &verdict.executions {
            println!("module {} ran in enclave {} ({} of {})", ran.module, ran.enclave, ran.tee, ran.provider);
        }
    }
    for why in &judgement.unmet {
        println!("not met: {why}");
    }
    println!("{}", judgement.last_line());
    Ok(judgement.exit().into())
}
