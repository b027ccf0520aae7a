//! The order queue: what waits for the order executor.
//!
//! Two lanes, each first in, first out: orders, and polls of the archive schedule. A poll is taken
//! only when no order waits, so that a write never stands behind a round of polling. Whoever takes
//! gets the head of a lane with the joinable items that directly follow it, at most
//! [`MOST_JOINED`]; an item that cannot be joined is taken alone.
//!
//! Taking waits on a condition, never by polling; closing wakes everyone who waits. The queue does
//! not know what an item is, and drops none: what was put before the close can still be taken.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// How many joinable neighbours are taken at once.
pub const MOST_JOINED: usize = 64;

/// Which lane an item waits in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Orders of the server and of the user: served first.
    Orders,
    /// Reads that the archive schedule asks for.
    Polls,
}

/// The queue was closed and takes no more items.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the order queue is closed")]
pub struct Closed;

struct Entry<T> {
    item: T,
    joinable: bool,
}

struct State<T> {
    orders: VecDeque<Entry<T>>,
    polls: VecDeque<Entry<T>>,
    interrupted: bool,
    closed: bool,
}

/// See the module's comment.
pub struct OrderQueue<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

impl<T> Default for OrderQueue<T> {
    fn default() -> Self {
        OrderQueue {
            state: Mutex::new(State {
                orders: VecDeque::new(),
                polls: VecDeque::new(),
                interrupted: false,
                closed: false,
            }),
            changed: Condvar::new(),
        }
    }
}

impl<T> OrderQueue<T> {
    /// Puts an item at the end of its lane.
    ///
    /// # Errors
    /// [`Closed`] after [`OrderQueue::close`].
    pub fn put(&self, item: T, joinable: bool, lane: Lane) -> Result<(), Closed> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(Closed);
        }
        let entry = Entry { item, joinable };
        match lane {
            Lane::Orders => state.orders.push_back(entry),
            Lane::Polls => state.polls.push_back(entry),
        }
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Takes the next items, waiting for them at most this long; for ever if `None`. Empty when the
    /// time ran out, when someone called [`OrderQueue::interrupt`], or when the queue is closed and
    /// has run dry.
    pub fn take(&self, timeout: Option<Duration>) -> Vec<T> {
        self.take_with(State::take, timeout)
    }

    /// The same with polls only: orders stay where they are.
    pub fn take_polls(&self, timeout: Option<Duration>) -> Vec<T> {
        self.take_with(|state| take_joined(&mut state.polls), timeout)
    }

    fn take_with(
        &self,
        take: impl Fn(&mut State<T>) -> Vec<T>,
        timeout: Option<Duration>,
    ) -> Vec<T> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut state = self.state.lock();
        loop {
            let taken = take(&mut state);
            if !taken.is_empty() || state.closed || std::mem::take(&mut state.interrupted) {
                return taken;
            }
            match deadline {
                None => self.changed.wait(&mut state),
                Some(deadline) => {
                    if self.changed.wait_until(&mut state, deadline).timed_out() {
                        return take(&mut state);
                    }
                }
            }
        }
    }

    /// Takes the next items if there are some, without waiting.
    pub fn try_take(&self) -> Vec<T> {
        self.state.lock().take()
    }

    /// Makes the present call of [`OrderQueue::take`], or else the next one, return without
    /// waiting.
    pub fn interrupt(&self) {
        self.state.lock().interrupted = true;
        self.changed.notify_all();
    }

    /// Refuses further items and wakes everyone who waits.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_all();
    }

    /// Whether the queue was closed.
    pub fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// How many items wait, in both lanes.
    pub fn len(&self) -> usize {
        let state = self.state.lock();
        state.orders.len() + state.polls.len()
    }

    /// Whether no item waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T> State<T> {
    fn take(&mut self) -> Vec<T> {
        take_joined(if self.orders.is_empty() {
            &mut self.polls
        } else {
            &mut self.orders
        })
    }
}

fn take_joined<T>(lane: &mut VecDeque<Entry<T>>) -> Vec<T> {
    let joined = lane
        .iter()
        .take(MOST_JOINED)
        .take_while(|entry| entry.joinable)
        .count();
    if joined > 1 {
        return lane.drain(..joined).map(|entry| entry.item).collect();
    }
    lane.pop_front()
        .map_or_else(Vec::new, |entry| vec![entry.item])
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use proptest::prelude::*;

    use super::*;

    const LONG: Option<Duration> = Some(Duration::from_secs(60));

    fn queue_of(items: &[(u32, bool, Lane)]) -> OrderQueue<u32> {
        let queue = OrderQueue::default();
        for &(item, joinable, lane) in items {
            queue.put(item, joinable, lane).unwrap();
        }
        queue
    }

    #[test]
    fn joinable_neighbours_are_taken_together_and_others_alone() {
        let lane = Lane::Orders;
        let queue = queue_of(&[
            (1, true, lane),
            (2, true, lane),
            (3, false, lane),
            (4, false, lane),
            (5, true, lane),
        ]);
        assert_eq!(queue.len(), 5);
        let taken: Vec<_> = std::iter::from_fn(|| Some(queue.try_take()))
            .take_while(|items| !items.is_empty())
            .collect();
        assert_eq!(taken, [vec![1, 2], vec![3], vec![4], vec![5]]);
    }

    #[test]
    fn orders_go_before_polls() {
        let queue = queue_of(&[(1, true, Lane::Polls), (2, true, Lane::Orders)]);
        assert_eq!((queue.try_take(), queue.try_take()), (vec![2], vec![1]));
    }

    #[test]
    fn polls_can_be_taken_while_orders_wait() {
        let queue = queue_of(&[(1, false, Lane::Orders), (2, true, Lane::Polls)]);
        assert_eq!(queue.take_polls(LONG), vec![2]);
        assert!(queue.take_polls(Some(Duration::ZERO)).is_empty());
        queue.interrupt();
        assert!(queue.take_polls(LONG).is_empty());
        assert_eq!(queue.take(LONG), vec![1]);
    }

    #[test]
    fn an_empty_queue_gives_nothing_when_the_time_is_up() {
        let queue: OrderQueue<u32> = OrderQueue::default();
        assert!(queue.take(Some(Duration::ZERO)).is_empty());
    }

    #[test]
    fn closing_wakes_who_waits_and_refuses_new_items() {
        let queue: Arc<OrderQueue<u32>> = Arc::default();
        let waiting: Vec<_> = (0..4)
            .map(|_| {
                let queue = Arc::clone(&queue);
                thread::spawn(move || queue.take(None))
            })
            .collect();
        queue.close();
        for thread in waiting {
            assert!(thread.join().unwrap().is_empty());
        }
        assert_eq!(queue.put(1, true, Lane::Orders), Err(Closed));
    }

    #[test]
    fn what_was_put_before_the_close_can_be_taken_after_it() {
        let queue = queue_of(&[(1, false, Lane::Orders), (2, false, Lane::Polls)]);
        queue.close();
        assert_eq!((queue.take(LONG), queue.take(LONG)), (vec![1], vec![2]));
        assert!(queue.take(LONG).is_empty());
    }

    #[test]
    fn an_interrupt_ends_one_wait() {
        let queue: OrderQueue<u32> = OrderQueue::default();
        queue.interrupt();
        assert!(queue.take(LONG).is_empty());
        queue.put(1, true, Lane::Orders).unwrap();
        assert_eq!(queue.take(LONG), vec![1]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_each_lane_keeps_its_order(
            items in prop::collection::vec((any::<bool>(), any::<bool>()), 0..300),
        ) {
            let queue = OrderQueue::default();
            for (number, &(joinable, poll)) in items.iter().enumerate() {
                let lane = if poll { Lane::Polls } else { Lane::Orders };
                queue.put((number, joinable, poll), joinable, lane).unwrap();
            }
            let mut seen = Vec::new();
            loop {
                let taken = queue.try_take();
                if taken.is_empty() {
                    break;
                }
                prop_assert!(taken.len() <= MOST_JOINED);
                prop_assert!(taken.len() == 1 || taken.iter().all(|&(_, joinable, _)| joinable));
                seen.extend(taken);
            }
            let expected: Vec<_> = items
                .iter()
                .enumerate()
                .map(|(number, &(joinable, poll))| (number, joinable, poll))
                .collect();
            let (polls, orders): (Vec<_>, Vec<_>) = expected.into_iter().partition(|item| item.2);
            prop_assert_eq!(seen, [orders, polls].concat());
        }
    }
}
