//! A real cluster's work through the real pool: the openb trace (Alibaba GPU cluster; Weng et al., "Beware of Fragmentation:
//! Scheduling GPU-Sharing Workloads with Fragmentation Gradient Descent", ATC'23), beside first-fit, best-fit, random and the
//! paper's own FGD over the same nodes and pods.
//!
//! * Nodes become enclaves with attested accelerators, pods tasks; every arrival is a signed request, every departure a
//!   cancellation, through the pool's one door. The clock stands still: only the order of the trace counts.
//! * What finds no place is given up at once, by all alike, so that placed shares can be compared.
//! * The examples' program `openb` runs all of it; the test below a slice.

pub(crate) mod peers;
pub(crate) mod replay;
pub(crate) mod trace;

#[cfg(test)]
#[expect(clippy::print_stderr, reason = "figures for whoever looks")]
mod tests {
    use super::{
        peers::Rule,
        replay::{Tale, in_pool, inflated, with},
        trace::Trace,
    };
    use legation_core::prefer::Weights;

    #[test]
    fn a_slice_of_a_real_cluster() {
        let Some(trace) = Trace::read() else { return };
        let slice = trace.slice(10, 1200);
        let load = inflated(&slice, 1.2);
        let usual = Weights::default();
        for (name, tale) in [("as it was", Tale::of(&slice.pods)), ("more than fits", load)] {
            let pool = in_pool(&slice, &tale, usual, true);
            let peers = Rule::ALL.map(|rule| with(&slice, &tale, rule));
            for outcome in peers.iter().chain([&pool]) {
                eprintln!("{name}: {}", outcome.json());
            }
            let best = peers.iter().find(|peer| peer.name == Rule::BestFit.name()).unwrap();
            assert!(pool.arrived > 500 && pool.placed > 100, "{name}: the slice tests too little");
            assert!(pool.share() >= best.share() - 0.02, "{name}: {:.4} below {:.4}", pool.share(), best.share());
        }
    }
}
