//! Shares of a split, by turns and by users, and weights of run time.

use proptest::prelude::*;

use super::*;

const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

fn split(weights: &[u16]) -> Split<usize> {
    Split::compile(weights.iter().enumerate().map(|(at, weight)| (at, NAMES[at], *weight)), None).unwrap()
}

fn picks(weights: &[u16], rounds: usize) -> Vec<usize> {
    let split = split(weights);
    (0..rounds).map(|_| *split.pick()).collect()
}

#[test]
fn shares_are_exact_over_any_full_run() {
    for weights in [&[95, 5][..], &[5, 3, 1], &[1], &[0, 7, 0], &[1, 1, 1, 1], &[65535, 1], &[2, 4]] {
        let sum: usize = weights.iter().map(|w| usize::from(*w)).sum();
        let picked = picks(weights, sum + 17);
        for start in [0, 1, 17] {
            for (index, weight) in weights.iter().enumerate() {
                let count = picked[start..start + sum].iter().filter(|p| **p == index).count();
                assert_eq!(count, usize::from(*weight), "{weights:?} from {start}");
            }
        }
    }
}

#[test]
fn a_small_share_is_spread_evenly() {
    let picked = picks(&[95, 5], 200);
    let at: Vec<_> = (0..picked.len()).filter(|i| picked[*i] == 1).collect();
    assert!(at.windows(2).all(|pair| pair[1] - pair[0] >= 8), "{at:?}");
}

#[test]
fn shares_are_exact_over_threads() {
    let split = Arc::new(split(&[3, 1]));
    let count = |split: Arc<Split<usize>>| (0..1_000).filter(|_| *split.pick() == 1).count();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn({
                let split = split.clone();
                move || count(split)
            })
        })
        .collect();
    assert_eq!(threads.into_iter().map(|t| t.join().unwrap()).sum::<usize>(), 1_000);
}

#[test]
fn at_least_one_weight_is_required() {
    assert!(Split::compile([("a", "a", 0)], None).is_err());
    assert!(Split::<()>::compile([], None).is_err());
    let split = Split::compile([("a", "a", 1), ("b", "b", 0), ("c", "c", 3)], None).unwrap();
    assert_eq!(split.targets(), [(&"a", 0.25), (&"c", 0.75)]);
    let shares: Vec<_> = split.shares().iter().map(|share| (share.name, share.weight, share.share)).collect();
    assert_eq!(shares, [("a", 1, 0.25), ("b", 0, 0.0), ("c", 3, 0.75)]);
}

#[test]
fn users_are_distributed_by_the_weights() {
    let split = split(&[90, 10, 0]);
    let mut counts = [0_u32; 3];
    (0..100_000_u32).for_each(|user| counts[*split.pick_for(hash(&user.to_le_bytes()))] += 1);
    // Five standard deviations of a binomial distribution are 475.
    assert!(counts[0].abs_diff(90_000) < 475 && counts[2] == 0, "{counts:?}");
}

#[test]
fn weights_that_are_set_at_run_time_can_be_undone() {
    let split = split(&[90, 10]);
    split.set_weights([("b", 30)]).unwrap();
    assert!(split.is_overridden());
    assert_eq!(
        split.shares().iter().map(|share| (share.weight, share.configured)).collect::<Vec<_>>(),
        [(90, 90), (30, 10)]
    );
    let unknown = split.set_weights([("a", 1), ("x", 1)]).unwrap_err();
    assert_eq!(unknown, "the split has no upstream `x`; it has `a`, `b`");
    assert!(split.set_weights([("a", 0), ("b", 0)]).is_err());
    assert_eq!(split.shares()[0].weight, 90, "a refused change changes nothing");
    split.reset_weights();
    assert!(!split.is_overridden() && split.shares()[1].weight == 10);
}

#[test]
fn a_new_split_of_the_same_upstreams_inherits_the_weights_of_run_time() {
    let old = split(&[90, 10]);
    let new = Split::compile([((), "b", 20), ((), "a", 80)], None).unwrap();
    assert!(new.inherit(&old) && !new.is_overridden(), "nothing was set");
    old.set_weights([("a", 50), ("b", 50)]).unwrap();
    assert!(new.inherit(&old) && new.is_overridden());
    assert_eq!(new.shares().iter().map(|share| share.weight).collect::<Vec<_>>(), [50, 50]);
    let other = Split::compile([((), "a", 80), ((), "c", 20)], None).unwrap();
    assert!(!other.inherit(&old) && !other.is_overridden());
    let more = split(&[80, 10, 10]);
    assert!(!more.inherit(&old) && more.shares()[0].weight == 80);
}

proptest! {
    /// A user changes the target only if the old target lost share or the new one gained share.
    #[test]
    fn users_move_only_from_shrinking_to_growing_targets(
        before in prop::collection::vec(0_u16..100, 4),
        after in prop::collection::vec(0_u16..100, 4),
        users in prop::collection::vec(any::<u64>(), 50),
    ) {
        prop_assume!(before.iter().any(|weight| *weight > 0) && after.iter().any(|weight| *weight > 0));
        let (old, new) = (split(&before), split(&after));
        for user in users {
            let (from, to) = (*old.pick_for(user), *new.pick_for(user));
            // With weighted rendezvous hashing a target wins a user from another only if it grew in relation to it.
            if from != to {
                let [was, is] = [&before, &after].map(|weights| (u32::from(weights[from]), u32::from(weights[to])));
                prop_assert!(is.1 * was.0 > was.1 * is.0, "{before:?} {after:?} {from} {to}");
            }
        }
    }

    /// With two targets, exactly the difference of the shares moves.
    #[test]
    fn a_growing_canary_keeps_its_users(users in prop::collection::vec(any::<u64>(), 200)) {
        let split = split(&[95, 5]);
        let mut canary: Vec<u64> = Vec::new();
        for share in [5, 10, 25, 50, 100] {
            split.set_weights([("a", 100 - share), ("b", share)]).unwrap();
            prop_assert!(canary.iter().all(|user| *split.pick_for(*user) == 1));
            canary = users.iter().copied().filter(|user| *split.pick_for(*user) == 1).collect();
        }
        prop_assert_eq!(canary.len(), users.len());
    }
}
