//! What a real application has a database for: logins and messages. Here they are in memory and, on request, in a file that is
//! only ever appended to.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::login::User;
use crate::rooms::{ROOMS, Room};

/// What somebody said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Message {
    /// Its number in the room, rising by one.
    pub(crate) number: u64,
    /// The idempotency key of the request it came in.
    pub(crate) key: String,
    /// Who said it.
    pub(crate) author: User,
    /// The words.
    pub(crate) text: String,
    /// When, in milliseconds since the Unix epoch.
    pub(crate) at: u64,
}

/// A message that has no place yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Draft<'a> {
    /// The idempotency key.
    pub(crate) key: &'a str,
    /// Who says it.
    pub(crate) author: &'a User,
    /// The words.
    pub(crate) text: &'a str,
}

/// Why something was not kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// The file could not be opened or read.
    #[error("cannot open {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A line of the file is not one of ours.
    #[error("line {line} of {} is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Which line, the first one being 1.
        line: usize,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The file could not be written.
    #[error("cannot write to the journal")]
    Write(#[source] io::Error),
    /// So many are signed in.
    #[error("{SESSIONS_MAX} sessions are open, no more are taken")]
    Full,
}

/// Logins and messages. What a call has accepted is in the file before the call returns: it outlives the program, though not a
/// power cut.
#[derive(Debug)]
pub(crate) struct Store {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    sessions: HashMap<String, User>,
    rooms: HashMap<String, VecDeque<Message>>,
    journal: Option<File>,
}

/// A line of the file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Record {
    SignedIn { session: String, user: User },
    SignedOut { session: String },
    Said { room: String, message: Message },
}

impl Store {
    /// A store that ends with the program.
    pub(crate) fn in_memory() -> Self {
        Self {
            state: Mutex::default(),
        }
    }

    /// Reads what is in a folder and goes on from there.
    pub(crate) fn open(folder: &Path) -> Result<Self, StoreError> {
        let path = folder.join("journal.jsonl");
        let failed = |source| StoreError::Open {
            path: path.clone(),
            source,
        };
        std::fs::create_dir_all(folder).map_err(failed)?;
        let journal = OpenOptions::new()
            .create(true)
            .read(true)
            .append(true)
            .open(&path)
            .map_err(failed)?;
        let text = io::read_to_string(&journal).map_err(failed)?;
        // A program that was killed while it wrote has left part of a line, which nobody was told had been kept.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        journal.set_len(whole as u64).map_err(failed)?;
        let mut state = State::default();
        for (line, record) in text[..whole].lines().enumerate() {
            let record = serde_json::from_str(record).map_err(|source| StoreError::Damaged {
                path: path.clone(),
                line: line + 1,
                source,
            })?;
            state.apply(record);
        }
        state.journal = Some(journal);
        Ok(Self {
            state: Mutex::new(state),
        })
    }

    /// The user of a session.
    pub(crate) fn user_of(&self, session: &str) -> Option<User> {
        self.lock().sessions.get(session).cloned()
    }

    /// Everybody who is signed in, each once.
    pub(crate) fn users(&self) -> Vec<User> {
        let state = self.lock();
        let mut seen = HashSet::new();
        let users = state.sessions.values();
        users
            .filter(|user| seen.insert((user.id.clone(), user.team)))
            .cloned()
            .collect()
    }

    /// Begins a session.
    pub(crate) fn sign_in(&self, session: String, user: User) -> Result<(), StoreError> {
        let mut state = self.lock();
        if state.sessions.len() >= SESSIONS_MAX {
            return Err(StoreError::Full);
        }
        state.keep(Record::SignedIn { session, user })
    }

    /// Ends a session.
    pub(crate) fn sign_out(&self, session: &str) -> Result<(), StoreError> {
        let session = session.to_owned();
        self.lock().keep(Record::SignedOut { session })
    }

    /// The last messages of a room, oldest first.
    pub(crate) fn messages(&self, room: &Room) -> Vec<Message> {
        let state = self.lock();
        let messages = state.rooms.get(room.id);
        messages.map_or_else(Vec::new, |messages| messages.iter().cloned().collect())
    }

    /// Adds a message to a room, or finds the one that a repeated request has added before.
    pub(crate) fn add(&self, room: &Room, draft: &Draft<'_>) -> Result<Message, StoreError> {
        let mut state = self.lock();
        let messages = state.rooms.entry(room.id.to_owned()).or_default();
        if let Some(message) = messages.iter().find(|message| message.key == draft.key) {
            return Ok(message.clone());
        }
        let message = Message {
            number: messages.back().map_or(1, |last| last.number + 1),
            key: draft.key.to_owned(),
            author: draft.author.clone(),
            text: draft.text.to_owned(),
            at: now_ms(),
        };
        let room = room.id.to_owned();
        let said = message.clone();
        state.keep(Record::Said {
            room,
            message: said,
        })?;
        Ok(message)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Writes a record down and then holds it as true. A line is one write: it is there as a whole or not at all.
    fn keep(&mut self, record: Record) -> Result<(), StoreError> {
        if let Some(journal) = &mut self.journal {
            let mut line =
                serde_json::to_vec(&record).map_err(|error| StoreError::Write(error.into()))?;
            line.push(b'\n');
            let before = journal.metadata().map_err(StoreError::Write)?.len();
            if let Err(error) = journal.write_all(&line) {
                // Half a line would spoil the next one.
                journal.set_len(before).map_err(StoreError::Write)?;
                return Err(StoreError::Write(error));
            }
        }
        self.apply(record);
        Ok(())
    }

    fn apply(&mut self, record: Record) {
        match record {
            Record::SignedIn { session, user } => {
                self.sessions.insert(session, user);
            }
            Record::SignedOut { session } => {
                self.sessions.remove(&session);
            }
            Record::Said { room, message } => {
                if ROOMS.iter().any(|known| known.id == room) {
                    let messages = self.rooms.entry(room).or_default();
                    messages.push_back(message);
                    if messages.len() > MESSAGES_MAX {
                        messages.pop_front();
                    }
                }
            }
        }
    }
}

/// User ids as JSON strings.
pub(crate) mod user_id {
    use fanfare_server::protocol::UserId;
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(id: &UserId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(id.as_str())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<UserId, D::Error> {
        let text = String::deserialize(deserializer)?;
        UserId::new(&text).map_err(D::Error::custom)
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0))
}

/// 500: what a page loads of a room.
const MESSAGES_MAX: usize = 500;
/// 10,000: a demo that is left on the internet by accident stays small.
const SESSIONS_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use fanfare_server::protocol::UserId;

    use super::*;
    use crate::rooms::Team;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let name = format!("chat-store-{name}-{}", std::process::id());
            let folder = Self(std::env::temp_dir().join(name));
            let _ = std::fs::remove_dir_all(&folder.0);
            folder
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn ann() -> User {
        User {
            id: UserId::new("ann").unwrap(),
            name: "Ann".to_owned(),
            team: Team::Design,
        }
    }

    fn say(store: &Store, key: &str, text: &str) -> Message {
        let author = ann();
        let draft = Draft {
            key,
            author: &author,
            text,
        };
        store.add(&ROOMS[0], &draft).unwrap()
    }

    #[test]
    fn a_repeated_message_is_said_once() {
        let store = Store::in_memory();
        let first = say(&store, "a", "hello");
        assert_eq!(say(&store, "a", "hello again"), first);
        let second = say(&store, "b", "hello");
        assert_eq!((first.number, second.number), (1, 2));
        assert_eq!(store.messages(&ROOMS[0]), [first, second]);
        assert_eq!(store.messages(&ROOMS[1]), []);
    }

    #[test]
    fn a_room_keeps_the_last_messages() {
        let store = Store::in_memory();
        for number in 0..=MESSAGES_MAX {
            say(&store, &number.to_string(), "hello");
        }
        let messages = store.messages(&ROOMS[0]);
        assert_eq!(messages.len(), MESSAGES_MAX);
        assert_eq!(messages[0].number, 2);
    }

    #[test]
    fn what_was_kept_is_there_after_a_restart() {
        let folder = Folder::new("restart");
        let store = Store::open(&folder.0).unwrap();
        store.sign_in("one".to_owned(), ann()).unwrap();
        store.sign_in("two".to_owned(), ann()).unwrap();
        store.sign_out("two").unwrap();
        let first = say(&store, "a", "line\nbreak");
        drop(store);

        let journal = folder.0.join("journal.jsonl");
        let torn = OpenOptions::new().append(true).open(&journal);
        torn.unwrap().write_all(br#"{"type":"said","ro"#).unwrap();
        let store = Store::open(&folder.0).unwrap();
        assert_eq!(store.user_of("one"), Some(ann()));
        assert_eq!(store.user_of("two"), None);
        assert_eq!(store.users(), [ann()]);
        let second = say(&store, "b", "after");
        assert_eq!(second.number, 2);
        drop(store);

        let store = Store::open(&folder.0).unwrap();
        assert_eq!(store.messages(&ROOMS[0]), [first, second]);
    }

    #[test]
    fn a_damaged_line_is_named() {
        let folder = Folder::new("damaged");
        std::fs::create_dir_all(&folder.0).unwrap();
        std::fs::write(folder.0.join("journal.jsonl"), "{}\n").unwrap();
        let error = Store::open(&folder.0).unwrap_err().to_string();
        assert!(error.starts_with("line 1 of "), "{error}");
    }
}
