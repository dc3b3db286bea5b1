//! Tests of the hashing threads. Jobs wait on channels, so that no test depends on time.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::atomic::AtomicUsize;
use std::sync::mpsc;

use super::super::verified::DigestKey;
use super::*;

fn digests(count: usize) -> Vec<CredentialDigest> {
    let key = DigestKey::random().unwrap();
    (0..count).map(|number| key.digest("p", &number.to_string(), "w", b"h")).collect()
}

/// A pool with one thread, and its first job, which runs until the sender sends.
fn busy_pool(digest: CredentialDigest) -> (HashingPool, mpsc::Sender<()>, HashResult) {
    let pool = HashingPool::start(1).unwrap();
    let (release, released) = mpsc::channel();
    let (begun, has_begun) = mpsc::channel();
    let job = move || -> HashJob {
        Box::new(move || {
            begun.send(()).unwrap();
            released.recv().is_ok()
        })
    };
    let result = pool.submit(digest, job).unwrap();
    has_begun.recv().unwrap();
    (pool, release, result)
}

fn answer(is_right: bool) -> impl FnOnce() -> HashJob {
    move || Box::new(move || is_right)
}

#[tokio::test]
async fn each_request_gets_the_result_of_its_own_job() {
    let pool = HashingPool::start(2).unwrap();
    let digests = digests(40);
    let results: Vec<_> =
        digests.iter().enumerate().map(|(at, digest)| pool.submit(*digest, answer(at % 3 == 0)).unwrap()).collect();
    for (at, result) in results.into_iter().enumerate() {
        assert_eq!(result.wait().await, Some(at % 3 == 0), "{at}");
    }
    assert_eq!(pool.started(), 40);
}

#[tokio::test]
async fn equal_credentials_share_one_job_while_it_waits_and_while_it_runs() {
    let digests = digests(2);
    let (pool, release, first) = busy_pool(digests[0]);
    let running: Vec<_> = (0..50).map(|_| pool.submit(digests[0], || panic!("a second job")).unwrap()).collect();
    let waiting: Vec<_> = (0..50).map(|_| pool.submit(digests[1], answer(true)).unwrap()).collect();
    release.send(()).unwrap();
    for result in running.into_iter().chain(waiting).chain([first]) {
        assert_eq!(result.wait().await, Some(true));
    }
    assert_eq!(pool.started(), 2);
    assert_eq!(pool.submit(digests[0], answer(false)).unwrap().wait().await, Some(false), "no result is kept");
}

#[tokio::test]
async fn a_full_queue_refuses_a_job_but_not_a_request_with_the_same_credentials() {
    let digests = digests(MAX_QUEUE + 2);
    let (pool, release, first) = busy_pool(digests[0]);
    let waiting: Vec<_> =
        digests[1..=MAX_QUEUE].iter().map(|digest| pool.submit(*digest, answer(true)).unwrap()).collect();
    assert!(pool.submit(digests[MAX_QUEUE + 1], answer(true)).is_err());
    let joined = pool.submit(digests[MAX_QUEUE], || panic!("a second job")).unwrap();
    release.send(()).unwrap();
    for result in waiting.into_iter().chain([first, joined]) {
        assert_eq!(result.wait().await, Some(true));
    }
    assert_eq!(pool.submit(digests[MAX_QUEUE + 1], answer(true)).unwrap().wait().await, Some(true));
}

#[tokio::test]
async fn a_job_whose_requests_were_dropped_is_skipped_and_gives_its_place_free() {
    let digests = digests(MAX_QUEUE + 3);
    let (pool, release, first) = busy_pool(digests[0]);
    let ran = Arc::new(AtomicUsize::new(0));
    let job = || {
        let ran = Arc::clone(&ran);
        move || -> HashJob { Box::new(move || ran.fetch_add(1, Ordering::SeqCst) < usize::MAX) }
    };
    let dropped: Vec<_> = digests[1..=MAX_QUEUE].iter().map(|digest| pool.submit(*digest, job()).unwrap()).collect();
    drop(dropped);
    let next = pool.submit(digests[MAX_QUEUE + 1], job()).expect("the dropped jobs gave their places free");
    drop(pool.submit(digests[MAX_QUEUE + 2], job()).unwrap());
    release.send(()).unwrap();
    assert_eq!((first.wait().await, next.wait().await), (Some(true), Some(true)));
    let last = pool.submit(digests[1], job()).unwrap();
    assert_eq!(last.wait().await, Some(true), "the same credentials again");
    assert_eq!((ran.load(Ordering::SeqCst), pool.started()), (2, 3));
}

#[tokio::test]
async fn a_panic_ends_only_its_own_job() {
    let (pool, digests) = (HashingPool::start(1).unwrap(), digests(2));
    let broken = pool.submit(digests[0], || Box::new(|| panic!("as a test wants it"))).unwrap();
    assert_eq!(broken.wait().await, None);
    assert_eq!(pool.submit(digests[1], answer(true)).unwrap().wait().await, Some(true));
}

#[tokio::test]
async fn the_threads_end_with_the_pool() {
    let (pool, digests) = (HashingPool::start(2).unwrap(), digests(1));
    assert_eq!(pool.submit(digests[0], answer(true)).unwrap().wait().await, Some(true));
    let shared = Arc::downgrade(&pool.shared);
    drop(pool);
    while shared.strong_count() > 0 {
        thread::yield_now();
    }
}
