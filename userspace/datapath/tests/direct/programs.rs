//! What the programs cost.

use crate::lab::Lab;

/// Instructions that the verifier may go through for any program. It refuses a million; other kernels
/// count differently, by half as much again at most.
const MOST: u32 = 250_000;

#[test]
fn the_verifier_has_room_left() {
    let lab = Lab::new();
    let programs = lab.datapath().programs().unwrap();
    assert_eq!(programs.len(), 10);
    for program in programs {
        println!("{:>8} {}", program.verified_instructions, program.name);
        assert!((1..MOST).contains(&program.verified_instructions), "{program:?}");
    }
}
