//! Tests of the queue: order, bounds, and no lost notification.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::atomic::AtomicU32;

use proptest::prelude::*;
use tokio::task::JoinHandle;

use super::super::balance::tests::balancer;
use super::super::balance::{Balancer, Tried};
use super::*;
use crate::backend::OnFree;
use crate::config::schema::Balance;

/// Slots that the test frees explicitly.
#[derive(Default)]
struct Slots {
    free: AtomicU32,
    queue: Queue,
}

impl Slots {
    fn look(&self) -> PickOutcome<()> {
        let less = |free: u32| free.checked_sub(1);
        match self.free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less) {
            Ok(_) => PickOutcome::Slot(()),
            Err(_) => PickOutcome::Full,
        }
    }

    fn give(&self) {
        self.free.fetch_add(1, Ordering::Relaxed);
        self.queue.notify_first();
    }

    async fn wait(&self, size: usize) -> Result<(), WaitError> {
        self.queue.wait((0, size), Duration::from_secs(3600), std::future::pending(), || self.look()).await
    }
}

#[tokio::test]
async fn slots_go_to_the_oldest_requests() {
    let slots = Arc::new(Slots::default());
    let served = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = Vec::new();
    for who in 0..20 {
        let (slots, served) = (Arc::clone(&slots), Arc::clone(&served));
        tasks.push(tokio::spawn(async move {
            slots.wait(100).await.unwrap();
            served.lock().push(who);
        }));
        tokio::task::yield_now().await;
    }
    assert_eq!(slots.queue.depth(), 20);
    // The test frees one slot, then several at once, while some requests leave.
    tasks[3].abort();
    tasks[0].abort();
    tokio::task::yield_now().await;
    (0..18).for_each(|_| slots.give());
    for (who, task) in tasks.into_iter().enumerate() {
        assert_eq!(task.await.is_ok(), who != 0 && who != 3);
    }
    let expected: Vec<_> = (0..20).filter(|who| *who != 0 && *who != 3).collect();
    assert_eq!((served.lock().clone(), slots.queue.depth()), (expected, 0));
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_by_timeout_disconnect_no_backend_or_overflow() {
    let queue = Queue::default();
    let hour = Duration::from_secs(3600);
    let full = || PickOutcome::<()>::Full;
    assert_eq!(queue.wait((0, 1), Duration::from_secs(2), std::future::pending(), full).await, Err(WaitError::Timeout));
    let gone = tokio::time::sleep(Duration::from_secs(1));
    assert_eq!(queue.wait((0, 1), hour, gone, full).await, Err(WaitError::Left));
    assert_eq!(
        queue.wait((0, 1), hour, std::future::pending(), || PickOutcome::<()>::Nobody).await,
        Err(WaitError::Nobody)
    );
    assert_eq!(queue.wait((0, 0), hour, std::future::pending(), full).await, Err(WaitError::Overflow));
    let first = queue.wait((0, 1), hour, std::future::pending(), full);
    tokio::pin!(first);
    assert!(futures_util::poll!(&mut first).is_pending());
    assert_eq!(queue.wait((0, 1), hour, std::future::pending(), full).await, Err(WaitError::Overflow));
    assert_eq!(queue.depth(), 1);
}

/// Two backends with one slot each. A request that tried one waits for the other.
#[tokio::test]
async fn a_slot_that_the_head_cannot_use_goes_to_the_next_class() {
    let (queue, free) = (Arc::new(Queue::default()), Arc::new([const { AtomicU32::new(0) }; 2]));
    let served = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = Vec::new();
    for (who, tried) in [Some(0), Some(0), None, Some(1), None].into_iter().enumerate() {
        let (queue, free, served) = (Arc::clone(&queue), Arc::clone(&free), Arc::clone(&served));
        tasks.push(tokio::spawn(async move {
            let look = || {
                let mut others = false;
                for (at, slot) in free.iter().enumerate().filter(|(_, slot)| slot.load(Ordering::Relaxed) > 0) {
                    if Some(at) != tried {
                        slot.fetch_sub(1, Ordering::Relaxed);
                        return PickOutcome::Slot(());
                    }
                    others = true;
                }
                if others { PickOutcome::ForOthers } else { PickOutcome::Full }
            };
            let kind = tried.map_or(0, |at| at as u64 + 1);
            queue.wait((kind, 10), Duration::from_secs(60), std::future::pending(), look).await.unwrap();
            served.lock().push(who);
        }));
        tokio::task::yield_now().await;
    }
    // Slots of the first backend only: requests that tried it let the others pass, in order.
    for at in [0, 0, 0, 1, 1] {
        free[at].fetch_add(1, Ordering::Relaxed);
        queue.notify_first();
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }
    for task in tasks {
        tokio::time::timeout(Duration::from_secs(30), task).await.expect("a slot was lost").unwrap();
    }
    assert_eq!((served.lock().as_slice(), queue.depth()), ([2, 3, 4, 0, 1].as_slice(), 0));
}

/// A new request is not blocked by requests that wait for other slots.
#[tokio::test]
async fn a_request_is_not_blocked_by_those_that_cannot_use_the_slot() {
    let queue = Arc::new(Queue::default());
    let waits = {
        let queue = Arc::clone(&queue);
        let hour = Duration::from_secs(3600);
        tokio::spawn(
            async move { queue.wait((7, 10), hour, std::future::pending(), || PickOutcome::<()>::ForOthers).await },
        )
    };
    tokio::task::yield_now().await;
    let newcomer = queue.wait((0, 10), Duration::from_secs(60), std::future::pending(), || PickOutcome::Slot(()));
    assert_eq!((newcomer.await, queue.depth()), (Ok(()), 1));
    waits.abort();
}

#[tokio::test]
async fn only_the_head_is_awake() {
    let slots = Arc::new(Slots::default());
    let looks = Arc::new(AtomicU32::new(0));
    let mut tasks = Vec::new();
    for _ in 0..100 {
        let (slots, looks) = (Arc::clone(&slots), Arc::clone(&looks));
        tasks.push(tokio::spawn(async move {
            let look = || {
                looks.fetch_add(1, Ordering::Relaxed);
                slots.look()
            };
            slots.queue.wait((0, 100), Duration::from_secs(60), std::future::pending(), look).await
        }));
    }
    tokio::task::yield_now().await;
    for _ in 0..100 {
        slots.give();
        tokio::task::yield_now().await;
    }
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    let looks = looks.load(Ordering::Relaxed);
    assert!(looks <= 300, "{looks} looks for 100 slots");
}

#[test]
fn no_notification_is_lost_between_threads() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    runtime.block_on(async {
        let slots = Arc::new(Slots::default());
        (0..3).for_each(|_| slots.give());
        let mut tasks = Vec::new();
        for who in 0..400_u32 {
            let slots = Arc::clone(&slots);
            tasks.push(tokio::spawn(async move {
                for turn in 0..25 {
                    let gone = async {
                        if (who + turn) % 7 == 0 {
                            tokio::task::yield_now().await
                        } else {
                            std::future::pending().await
                        }
                    };
                    if slots.queue.wait((0, 1_000), Duration::from_secs(60), gone, || slots.look()).await.is_ok() {
                        tokio::task::yield_now().await;
                        slots.give();
                    }
                }
            }));
        }
        for task in tasks {
            tokio::time::timeout(Duration::from_secs(30), task).await.expect("a notification was lost").unwrap();
        }
        assert_eq!((slots.queue.depth(), slots.free.load(Ordering::Relaxed)), (0, 3));
    });
}

/// Requests that take a slot or wait for one, hold it, and end or are cancelled at any time.
struct Traffic {
    balancer: Arc<Balancer>,
    queue: Arc<Queue>,
    limit: u32,
    tasks: Vec<JoinHandle<()>>,
}

impl Traffic {
    fn new(kind: Balance, backends: usize, limit: u32) -> Self {
        let (balancer, queue) = (Arc::new(balancer(kind, &vec![1; backends])), Arc::<Queue>::default());
        for slot in balancer.slots() {
            let queue = Arc::clone(&queue);
            slot.state.set_limit(limit, Some(OnFree::new(move || queue.notify_first())));
        }
        Self { balancer, queue, limit, tasks: Vec::new() }
    }

    fn arrive(&mut self, size: usize, holds_ms: u64) {
        let (balancer, queue) = (Arc::clone(&self.balancer), Arc::clone(&self.queue));
        self.tasks.push(tokio::spawn(async move {
            let look = || balancer.pick(&Tried::default(), 0, None).map_or(PickOutcome::Full, PickOutcome::Slot);
            let second = Duration::from_secs(1);
            if let Ok(picked) = queue.wait((0, size), second, std::future::pending(), look).await {
                tokio::time::sleep(Duration::from_millis(holds_ms)).await;
                drop(picked.guard);
            }
        }));
    }

    fn in_flight(&self) -> Vec<u32> {
        self.balancer.slots().iter().map(|slot| slot.state.in_flight()).collect()
    }
}

proptest! {
    /// For any arrivals, ends and cancellations: the limit and the queue size hold. No request waits while a slot is
    /// free. Finally nothing is in flight.
    #[test]
    fn limits_hold_and_all_slots_are_released(
        kind in prop_oneof![Just(Balance::RoundRobin), Just(Balance::WeightedRoundRobin), Just(Balance::LeastConnections)],
        (backends, limit, size) in (1_usize..4, 1_u32..4, 1_usize..6),
        steps in proptest::collection::vec((0_u8..4, any::<usize>(), 0_u64..2_000), 1..60)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut traffic = Traffic::new(kind, backends, limit);
            for (what, which, millis) in steps {
                match what {
                    0 | 1 => traffic.arrive(size, millis),
                    2 if !traffic.tasks.is_empty() => traffic.tasks[which % traffic.tasks.len()].abort(),
                    _ => tokio::time::sleep(Duration::from_millis(millis)).await,
                }
                for _ in 0..20 {
                    tokio::task::yield_now().await;
                }
                let in_flight = traffic.in_flight();
                prop_assert!(in_flight.iter().all(|count| *count <= traffic.limit), "{in_flight:?}");
                let depth = traffic.queue.depth();
                prop_assert!(depth <= size);
                prop_assert!(depth == 0 || in_flight.iter().all(|count| *count == limit), "{depth} wait, {in_flight:?}");
            }
            traffic.tasks.iter().for_each(JoinHandle::abort);
            for task in std::mem::take(&mut traffic.tasks) {
                let _ = task.await;
            }
            prop_assert_eq!((traffic.in_flight(), traffic.queue.depth()), (vec![0; backends], 0));
            Ok(())
        })?;
    }
}
