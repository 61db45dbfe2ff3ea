//! The HTTP API of the page. Messages come in here, are stored, and go out through the realtime server.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{Path, State};
use fanfare_server::Publication;
use fanfare_server::protocol::{
    ChannelName, EventName, IdempotencyKey, NameError, RawJson, UserId,
};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::app::Chat;
use crate::error::Refusal;
use crate::login::{self, User};
use crate::rooms::{ROOMS, Room, TICKER};
use crate::store::{Draft, Message};

/// Who is signed in, if anybody is, and what the page can show.
pub(crate) async fn me(State(chat): State<Arc<Chat>>, headers: HeaderMap) -> Json<Value> {
    let Some(user) = login::user_of(&chat.store, &headers) else {
        return Json(json!({ "user": null }));
    };
    let rooms = ROOMS.iter().map(|room| {
        json!({
            "id": room.id,
            "title": room.title,
            "about": room.about,
            "channel": room.channel(),
            "typing_channel": room.typing_channel(),
            "team": room.team,
        })
    });
    let personal_channel = ChannelName::user(&user.id);
    Json(json!({
        "user": user,
        "rooms": rooms.collect::<Vec<_>>(),
        "ticker": TICKER,
        "personal_channel": personal_channel.as_str(),
    }))
}

/// A room's messages, oldest first: what a page loads before it follows the channel.
pub(crate) async fn messages(
    State(chat): State<Arc<Chat>>,
    user: User,
    Path(room): Path<String>,
) -> Result<Json<Vec<Message>>, Refusal> {
    let room = enter(&user, &room)?;
    Ok(Json(chat.store.messages(room)))
}

/// What the page sends to say something.
#[derive(Debug, Deserialize)]
pub(crate) struct Words {
    text: String,
    /// Made by the page: however often a request is repeated, the message is said once.
    key: String,
}

/// Stores a message and tells everybody in the room.
pub(crate) async fn post_message(
    State(chat): State<Arc<Chat>>,
    user: User,
    Path(room): Path<String>,
    Json(words): Json<Words>,
) -> Result<Json<Message>, Refusal> {
    let room = enter(&user, &room)?;
    let text = words.text.trim();
    if text.is_empty() || text.chars().count() > TEXT_MAX {
        let reason = format!("a message has 1 to {TEXT_MAX} characters");
        return Err(Refusal::bad(reason));
    }
    let key = format!("{}:{}", user.id, words.key);
    let key = IdempotencyKey::new(&key).map_err(bad_name)?;
    let draft = Draft {
        key: key.as_str(),
        author: &user,
        text,
    };
    let one_at_a_time = chat.posting.lock().await;
    let message = chat.store.add(room, &draft);
    let message = message.map_err(|error| Refusal::unavailable(&error))?;
    // The page may repeat what failed here: the message is found by its key, and the key keeps it from being sent twice.
    let data = RawJson::encode(&message).map_err(|error| Refusal::unavailable(&error))?;
    let publication = Publication::new(channel_of(room)?, event("message")?, data);
    chat.events
        .publish(publication.from_user(user.id.clone()).with_key(key))
        .await?;
    drop(one_at_a_time);
    mention(&chat, room, &message).await?;
    Ok(Json(message))
}

/// What the page sends to poke somebody.
#[derive(Debug, Deserialize)]
pub(crate) struct Poke {
    user: String,
}

/// Sends a notification to one user, wherever they are connected.
pub(crate) async fn poke(
    State(chat): State<Arc<Chat>>,
    user: User,
    Json(poke): Json<Poke>,
) -> Result<StatusCode, Refusal> {
    let to = UserId::new(&poke.user).map_err(bad_name)?;
    let note = Note {
        from: &user,
        room: None,
        text: None,
    };
    chat.events.send_to_user(&to, "poke", &note).await?;
    Ok(StatusCode::ACCEPTED)
}

/// What the page sends to be cut off.
#[derive(Debug, Deserialize)]
pub(crate) struct Cut {
    seconds: u64,
}

/// Cuts the user's line: what is connected ends without a word, and nothing gets through for a while.
pub(crate) async fn cut(
    State(chat): State<Arc<Chat>>,
    user: User,
    Json(cut): Json<Cut>,
) -> Result<Json<Value>, Refusal> {
    if cut.seconds > CUT_SECONDS_MAX {
        let reason = format!("a line is cut for at most {CUT_SECONDS_MAX} seconds");
        return Err(Refusal::bad(reason));
    }
    let duration = Duration::from_secs(cut.seconds);
    chat.lines.cut(&user.id, duration, Instant::now());
    let mut connections = 0;
    let sockets = chat.events.connections_of(&user.id).await;
    for socket in sockets.map_err(|error| Refusal::unavailable(&error))? {
        // A connection that is already gone needs no cutting.
        connections += usize::from(chat.events.drop_connection(socket).await.is_ok());
    }
    Ok(Json(json!({ "connections": connections })))
}

/// A personal notification.
#[derive(Debug, Serialize)]
struct Note<'a> {
    from: &'a User,
    room: Option<&'a str>,
    text: Option<&'a str>,
}

/// Tells everybody whose name is in a message, if the message is for their eyes.
async fn mention(chat: &Chat, room: &Room, message: &Message) -> Result<(), Refusal> {
    let named = mentioned(&message.text);
    let readers = chat.store.users().into_iter().filter(|user| {
        named.contains(user.id.as_str()) && user.id != message.author.id && room.admits(user.team)
    });
    let readers: Vec<UserId> = readers.map(|user| user.id).collect();
    let note = Note {
        from: &message.author,
        room: Some(room.id),
        text: Some(&message.text),
    };
    chat.events
        .send_to_users(&readers, "mention", &note)
        .await?;
    Ok(())
}

/// The ids after an `@`.
fn mentioned(text: &str) -> BTreeSet<String> {
    let is_end = |character: char| !(character.is_alphanumeric() || ".'-".contains(character));
    text.split('@')
        .skip(1)
        .filter_map(|rest| rest.split(is_end).next())
        .map(|name| name.trim_end_matches(['.', '\'', '-']).to_lowercase())
        .filter(|name| !name.is_empty())
        .collect()
}

fn enter(user: &User, room: &str) -> Result<&'static Room, Refusal> {
    let room = Room::of(room)
        .ok_or_else(|| Refusal::new(StatusCode::NOT_FOUND, "there is no such room"))?;
    if room.admits(user.team) {
        Ok(room)
    } else {
        let reason = format!("{} is for its team alone", room.title);
        Err(Refusal::new(StatusCode::FORBIDDEN, reason))
    }
}

fn channel_of(room: &Room) -> Result<ChannelName, Refusal> {
    ChannelName::new(&room.channel()).map_err(bad_name)
}

fn event(name: &str) -> Result<EventName, Refusal> {
    EventName::new(name).map_err(bad_name)
}

fn bad_name(error: NameError) -> Refusal {
    Refusal::bad(error.to_string())
}

/// 2,000 characters: what a screen shows.
const TEXT_MAX: usize = 2_000;
/// 30 s: longer than anybody watches.
const CUT_SECONDS_MAX: u64 = 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_a_text() {
        #[track_caller]
        fn check(text: &str, expect: &[&str]) {
            let found = mentioned(text);
            assert_eq!(found.iter().collect::<Vec<_>>(), expect, "{text:?}");
        }
        check("nobody", &[]);
        check("@", &[]);
        check("@ann", &["ann"]);
        check("hello @Ann, @bob!", &["ann", "bob"]);
        check("@ann-lee. @ann @ann", &["ann", "ann-lee"]);
        check("@@žofie", &["žofie"]);
    }
}
