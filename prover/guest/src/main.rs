//! The library on the machine whose executions are proven. Elsewhere it is nothing.
//!
//! Input is a list of byte strings: the head of the witness, the module, then each input.

#[cfg(target_os = "zkvm")]
openvm::entry!(main);

#[cfg(target_os = "zkvm")]
fn main() {
    use legation_guest::{Witness, prove};

    let head = openvm::io::read_vec();
    let module = openvm::io::read_vec();
    let inputs = Witness::inputs_of(&head).map(|count| (0..count).map(|_| openvm::io::read_vec()).collect());
    let public = inputs
        .and_then(|inputs| Witness::read(&head, module, inputs))
        .map_err(legation_guest::Refused::Witness)
        .and_then(|witness| prove(&witness));
    match public {
        // Nothing follows: what was made public is what a proof shows.
        Ok(public) => openvm::io::reveal_bytes32(public),
        // The machine ends with an error, of which there is no proof.
        Err(refused) => panic!("{refused}"),
    }
}

#[cfg(not(target_os = "zkvm"))]
fn main() {}
