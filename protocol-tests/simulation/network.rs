//! The network between replicators and brokers: links of two directions, each with its own delays.
//!
//! Within a direction nothing is reordered, and nothing is delivered that was not sent. Everything else that a network does
//! to bytes may happen: they are late, they come in pieces, the link is cut or falls silent.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::task::Waker;

use bytes::{Buf, Bytes, BytesMut};
use kferry::protocol::ApiKey;
use kferry::sandbox::core::ConnectionId;

use crate::announcements::tell;
use crate::judge::MAGIC;
use crate::seed::Random;

/// Which of the two clusters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum End {
    Source,
    Target,
}

impl End {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Target => "target",
        }
    }
}

/// One connection of one incarnation to one broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LinkId(u64);

/// What has reached a broker.
#[derive(Debug)]
pub(crate) enum Arrival {
    /// A whole request, without its length.
    Request(Bytes),
    Hangup,
}

/// How long bytes are on their way, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Delays {
    /// At least 1: nothing is seen at the moment when it is done.
    pub(crate) usual: (i64, i64),
    pub(crate) long: (i64, i64),
    pub(crate) chance_of_long: f64,
    /// That a response comes in pieces.
    pub(crate) chance_of_pieces: f64,
}

#[derive(Debug)]
enum Inbound {
    Bytes(Bytes),
    Eof,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Direction {
    ToBroker,
    ToClient,
}

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) end: End,
    pub(crate) broker: i32,
    pub(crate) incarnation: usize,
    /// From the first request on.
    pub(crate) connection: Option<ConnectionId>,
    /// What the client has written of a request that is not whole.
    written: BytesMut,
    to_broker: VecDeque<Arrival>,
    to_client: VecDeque<Inbound>,
    /// When the last of each arrives.
    arrivals: [i64; 2],
    /// Nothing arrives before.
    held_until: i64,
    received: VecDeque<Bytes>,
    is_ended: bool,
    reader: Option<Waker>,
    is_cut: bool,
    /// The client has closed its end.
    is_left: bool,
    /// What goes in never comes out.
    is_silent: bool,
}

impl Link {
    fn name(&self, id: LinkId) -> String {
        let Self {
            end,
            broker,
            incarnation,
            ..
        } = self;
        format!("  {incarnation} at {} {broker} by {}", end.name(), id.0)
    }
}

/// What is said of a request in the log.
fn summary(request: &[u8]) -> String {
    let number = |from: usize| {
        request
            .get(from..from + 2)
            .map(|bytes| i16::from_be_bytes([bytes[0], bytes[1]]))
    };
    match (number(0).and_then(|api| ApiKey::try_from(api).ok()), number(2)) {
        (Some(api), Some(version)) => format!("{api:?} {version}, {} bytes", request.len()),
        _ => "hangs up".to_owned(),
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Network {
    now: i64,
    /// Each is one arrival at one end of a link: of whatever is at the front there.
    due: BinaryHeap<Reverse<(i64, u64, LinkId, Direction)>>,
    counter: u64,
    links: BTreeMap<LinkId, Link>,
    delays: Delays,
    random: Random,
    parted_until: BTreeMap<(usize, End), i64>,
    down_until: BTreeMap<(End, i32), i64>,
    trace: DefaultHasher,
    arrivals: u64,
}

impl Network {
    pub(crate) fn new(delays: Delays, random: Random) -> Self {
        Self {
            now: 0,
            due: BinaryHeap::new(),
            counter: 0,
            links: BTreeMap::new(),
            delays,
            random,
            parted_until: BTreeMap::new(),
            down_until: BTreeMap::new(),
            trace: DefaultHasher::new(),
            arrivals: 0,
        }
    }

    /// Milliseconds since the beginning.
    pub(crate) fn now(&self) -> i64 {
        self.now
    }

    pub(crate) fn set_now(&mut self, now: i64) {
        assert!(now >= self.now, "time goes one way");
        self.now = now;
    }

    /// When something arrives next.
    pub(crate) fn next_arrival(&self) -> Option<i64> {
        self.due.peek().map(|Reverse((time, ..))| *time)
    }

    pub(crate) fn link(&mut self, id: LinkId) -> Option<&mut Link> {
        self.links.get_mut(&id)
    }

    /// A hash over everything that has arrived, and when.
    pub(crate) fn trace(&self) -> u64 {
        self.trace.finish()
    }

    pub(crate) fn arrivals(&self) -> u64 {
        self.arrivals
    }

    /// Slow and broken networks end here.
    pub(crate) fn heal(&mut self) {
        self.delays.chance_of_long = 0.0;
        self.parted_until.clear();
        self.down_until.clear();
    }

    pub(crate) fn part(&mut self, incarnation: usize, end: End, until: i64) {
        self.parted_until.insert((incarnation, end), until);
    }

    pub(crate) fn take_down(&mut self, end: End, broker: i32, until: i64) {
        self.down_until.insert((end, broker), until);
    }

    /// How long a dial takes, and whether somebody is there to answer it.
    pub(crate) fn dial(&mut self, incarnation: usize, end: End, broker: i32) -> (i64, bool) {
        let parted = self
            .parted_until
            .get(&(incarnation, end))
            .map_or(0, |until| until - self.now);
        let is_up = self
            .down_until
            .get(&(end, broker))
            .is_none_or(|until| *until <= self.now);
        (parted.max(0) + self.delay(), is_up)
    }

    pub(crate) fn open(&mut self, incarnation: usize, end: End, broker: i32) -> LinkId {
        self.counter += 1;
        let id = LinkId(self.counter);
        let link = Link {
            end,
            broker,
            incarnation,
            connection: None,
            written: BytesMut::new(),
            to_broker: VecDeque::new(),
            to_client: VecDeque::new(),
            arrivals: [self.now; 2],
            held_until: 0,
            received: VecDeque::new(),
            is_ended: false,
            reader: None,
            is_cut: false,
            is_left: false,
            is_silent: false,
        };
        self.links.insert(id, link);
        id
    }

    /// The client writes. `false` if it has heard that the link is closed.
    pub(crate) fn write(&mut self, id: LinkId, bytes: &[u8], now: i64) -> bool {
        let Some(link) = self.links.get_mut(&id) else {
            return false;
        };
        if link.is_cut || link.is_silent {
            return !link.is_ended;
        }
        link.written.extend_from_slice(bytes);
        while let Some(request) = take_frame(&mut self.links.get_mut(&id).expect("it is there").written) {
            self.send(id, now, Arrival::Request(request));
        }
        true
    }

    /// The client reads into `buffer`: `None` if there is nothing to read yet.
    pub(crate) fn read(&mut self, id: LinkId, limit: usize, waker: &Waker) -> Option<Bytes> {
        let Some(link) = self.links.get_mut(&id) else {
            return Some(Bytes::new());
        };
        let Some(front) = link.received.front_mut() else {
            link.reader = Some(waker.clone());
            return link.is_ended.then(Bytes::new);
        };
        let read = front.split_to(limit.min(front.len()));
        if front.is_empty() {
            link.received.pop_front();
        }
        Some(read)
    }

    /// The client closes its end. What it has sent arrives before that is known.
    pub(crate) fn hang_up(&mut self, id: LinkId) {
        if let Some(link) = self.links.get_mut(&id).filter(|link| !link.is_left) {
            link.is_left = true;
            self.send(id, self.now, Arrival::Hangup);
        }
    }

    /// An incarnation is no more: its ends of all links close.
    pub(crate) fn bury(&mut self, incarnation: usize) {
        let of_incarnation = |(id, link): (&LinkId, &Link)| (link.incarnation == incarnation).then_some(*id);
        let links: Vec<LinkId> = self.links.iter().filter_map(of_incarnation).collect();
        for id in links {
            self.hang_up(id);
        }
    }

    /// The broker answers.
    pub(crate) fn answer(&mut self, id: LinkId, bytes: Bytes) {
        let Some(link) = self.links.get(&id) else { return };
        if link.is_cut || link.is_silent {
            return;
        }
        let mut rest = bytes;
        while rest.len() > 1 && self.random.chance(self.delays.chance_of_pieces) {
            let piece = rest.split_to(1 + self.random.index(rest.len() - 1));
            self.deliver(id, Inbound::Bytes(piece));
        }
        self.deliver(id, Inbound::Bytes(rest));
    }

    /// The broker closes its end. What it has answered arrives before that is known.
    pub(crate) fn close(&mut self, id: LinkId) {
        if self.links.contains_key(&id) {
            self.deliver(id, Inbound::Eof);
        }
    }

    /// Whether something that another incarnation than this one has sent may still be appended on the target.
    pub(crate) fn others_have_sent(&self, incarnation: usize) -> bool {
        let may_append = |arrival: &Arrival| {
            let Arrival::Request(request) = arrival else {
                return false;
            };
            summary(request).starts_with("Produce")
        };
        self.links
            .values()
            .filter(|link| link.end == End::Target && link.incarnation != incarnation)
            .any(|link| link.to_broker.iter().any(may_append))
    }

    /// Inverts a byte of a record in what the broker has answered last. `false` if there is none that could be found.
    pub(crate) fn damage(&mut self, id: LinkId) -> bool {
        let last = self.links.get_mut(&id).and_then(|link| link.to_client.back_mut());
        let Some(Inbound::Bytes(bytes)) = last else {
            return false;
        };
        let damaged = damaged(bytes);
        let is_damaged = damaged.is_some();
        *bytes = damaged.unwrap_or_else(|| bytes.clone());
        is_damaged
    }

    /// Loses what is on its way; both ends find out.
    pub(crate) fn cut(&mut self, id: LinkId) {
        let Some(link) = self.links.get_mut(&id).filter(|link| !link.is_cut) else {
            return;
        };
        link.is_cut = true;
        link.to_broker.clear();
        link.to_client.clear();
        self.deliver(id, Inbound::Eof);
        self.send(id, self.now, Arrival::Hangup);
    }

    /// Loses what is sent from now on; nobody is told.
    pub(crate) fn silence(&mut self, id: LinkId) {
        if let Some(link) = self.links.get_mut(&id) {
            link.is_silent = true;
        }
    }

    /// What an incarnation has sent and has not arrived comes so much later.
    pub(crate) fn hold(&mut self, incarnation: usize, until: i64) {
        for link in self.links.values_mut().filter(|link| link.incarnation == incarnation) {
            link.held_until = link.held_until.max(until);
        }
    }

    /// Takes the next arrival at a broker that is due by now; what is due at clients before it is handed over.
    pub(crate) fn pop(&mut self) -> Option<(LinkId, Arrival)> {
        while let Some(Reverse((time, _, id, direction))) = self.due.peek().copied()
            && time <= self.now
        {
            self.due.pop();
            let Some(link) = self.links.get_mut(&id) else { continue };
            let parted_until = self.parted_until.get(&(link.incarnation, link.end)).copied();
            let free_at = link.held_until.max(parted_until.unwrap_or(0));
            if free_at > self.now {
                self.counter += 1;
                self.due.push(Reverse((free_at, self.counter, id, direction)));
                let last = &mut link.arrivals[direction as usize];
                *last = free_at.max(*last);
                continue;
            }
            match direction {
                Direction::ToBroker => {
                    if let Some(arrival) = link.to_broker.pop_front() {
                        let bytes: &[u8] = match &arrival {
                            Arrival::Request(bytes) => bytes,
                            Arrival::Hangup => b"",
                        };
                        (time, id, bytes).hash(&mut self.trace);
                        tell(|| format!("{} <- {}", link.name(id), summary(bytes)));
                        self.arrivals += 1;
                        return Some((id, arrival));
                    }
                }
                Direction::ToClient => {
                    let Some(inbound) = link.to_client.pop_front() else {
                        continue;
                    };
                    match inbound {
                        Inbound::Bytes(bytes) => {
                            (time, id, &bytes[..]).hash(&mut self.trace);
                            tell(|| format!("{} -> {} bytes", link.name(id), bytes.len()));
                            link.received.push_back(bytes);
                        }
                        Inbound::Eof => link.is_ended = true,
                    }
                    self.arrivals += 1;
                    if let Some(reader) = link.reader.take() {
                        reader.wake();
                    }
                }
            }
        }
        None
    }

    /// The broker has closed its end too.
    pub(crate) fn hung_up(&mut self, id: LinkId) {
        if self.links.get(&id).is_some_and(|link| link.is_left) {
            self.links.remove(&id);
        }
    }

    fn send(&mut self, id: LinkId, now: i64, arrival: Arrival) {
        let at = self.next(id, now, Direction::ToBroker);
        let link = self.links.get_mut(&id).expect("an open link");
        link.to_broker.push_back(arrival);
        self.schedule(at, id, Direction::ToBroker);
    }

    fn deliver(&mut self, id: LinkId, inbound: Inbound) {
        let at = self.next(id, self.now, Direction::ToClient);
        let link = self.links.get_mut(&id).expect("an open link");
        link.to_client.push_back(inbound);
        self.schedule(at, id, Direction::ToClient);
    }

    /// When something that leaves now arrives.
    fn next(&mut self, id: LinkId, now: i64, direction: Direction) -> i64 {
        let at = now.max(self.now) + self.delay();
        let last = &mut self.links.get_mut(&id).expect("an open link").arrivals[direction as usize];
        *last = at.max(*last);
        *last
    }

    fn schedule(&mut self, at: i64, id: LinkId, direction: Direction) {
        self.counter += 1;
        self.due.push(Reverse((at, self.counter, id, direction)));
    }

    fn delay(&mut self) -> i64 {
        let (from, to) = match self.random.chance(self.delays.chance_of_long) {
            true => self.delays.long,
            false => self.delays.usual,
        };
        self.random.scale(from..to + 1)
    }
}

/// The same with one byte of a record inverted, if one can be found.
pub(crate) fn damaged(bytes: &Bytes) -> Option<Bytes> {
    let place = bytes.windows(MAGIC.len()).position(|window| window == MAGIC)?;
    let mut bytes = bytes.to_vec();
    bytes[place + MAGIC.len()] ^= 0xFF;
    Some(bytes.into())
}

/// Takes a whole frame from the front, without its length.
fn take_frame(written: &mut BytesMut) -> Option<Bytes> {
    let length = u32::from_be_bytes(*written.first_chunk()?) as usize;
    if written.len() < 4 + length {
        return None;
    }
    written.advance(4);
    Some(written.split_to(length).freeze())
}
