//! `legation run`.
use crate::world::{World, guest};

#[tokio::test(flavor = "multi_thread")]
async fn echo() {
    let t = std::time::Instant::now();
    let world = World::new(&["aurora"]);
    println!("made {:?}", t.elapsed());
    let mut world = world;
    world.start().await;
    println!("started {:?}", t.elapsed());
    let input = world.file("in", b"hello\0\xff");
    let ran = world
        .legation(&["run", &guest("echo"), "--input", &input, "--receipt", &world.path("r"), "--out", &world.path("o")])
        .await;
    println!("{}\n{}", ran.out(), ran.stderr);
    println!("ran {:?} {}", t.elapsed(), std::fs::metadata(world.path("r")).unwrap().len());
    let ran = world
        .legation(&[
            "run",
            &guest("train"),
            "--input",
            &world.file("c", "a,y\n1,2\n3,4\n"),
            "--",
            "epochs=1000000",
            "rate=0.0001",
            "l2=0.5",
        ])
        .await;
    println!("{}\n{}", ran.out(), ran.stderr);
    println!("ran {:?}", t.elapsed());
    println!("{}", world.log("manager"));
    println!("{}", world.log("aurora"));
}
