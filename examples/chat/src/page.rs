//! The page, compiled in, and the browser client, served from where it was built.

use std::path::{Path, PathBuf};

use axum::Router;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use tower_http::services::ServeDir;

/// Where the built browser client is.
#[derive(Debug)]
pub(crate) struct ClientPackage {
    folder: PathBuf,
}

/// There is no browser client to serve.
#[derive(Debug, thiserror::Error)]
#[error(
    "the browser client is not built ({} is missing): run `cargo xtask demo`, or `cargo xtask npm` first",
    missing.display()
)]
pub(crate) struct NotBuilt {
    missing: PathBuf,
}

impl ClientPackage {
    /// Looks for the client in a folder.
    pub(crate) fn find(folder: &Path) -> Result<Self, NotBuilt> {
        let missing = folder.join("index.js");
        if missing.is_file() {
            let folder = folder.to_owned();
            Ok(Self { folder })
        } else {
            Err(NotBuilt { missing })
        }
    }
}

/// The page at `/` and its files, and the client below `/fanfare/`.
pub(crate) fn router(package: &ClientPackage) -> Router {
    let mut router = Router::new().nest_service("/fanfare", ServeDir::new(&package.folder));
    for file in FILES {
        router = router.route(file.path, get(move || async move { file.response() }));
    }
    router
}

#[derive(Debug, Clone, Copy)]
struct File {
    path: &'static str,
    media_type: &'static str,
    text: &'static str,
}

impl File {
    fn response(self) -> Response {
        let headers = [
            (CONTENT_TYPE, self.media_type),
            (CONTENT_SECURITY_POLICY, POLICY),
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (CACHE_CONTROL, "no-cache"),
        ];
        (headers, self.text).into_response()
    }
}

macro_rules! script {
    ($name:literal) => {
        File {
            path: concat!("/page/", $name),
            media_type: "text/javascript; charset=utf-8",
            text: include_str!(concat!("../page/", $name)),
        }
    };
}

const FILES: &[File] = &[
    File {
        path: "/",
        media_type: "text/html; charset=utf-8",
        text: include_str!("../page/index.html"),
    },
    File {
        path: "/page/style.css",
        media_type: "text/css; charset=utf-8",
        text: include_str!("../page/style.css"),
    },
    File {
        path: "/page/icon.svg",
        media_type: "image/svg+xml",
        text: include_str!("../page/icon.svg"),
    },
    script!("main.js"),
    script!("api.js"),
    script!("connection.js"),
    script!("dom.js"),
    script!("notices.js"),
    script!("people.js"),
    script!("room.js"),
    script!("ticker.js"),
];

/// Everything from here and nothing inline: the wasm inside the client is all that `wasm-unsafe-eval` lets run.
const POLICY: &str = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_is_not_built_is_said_in_one_sentence() {
        let error = ClientPackage::find(Path::new("nowhere")).unwrap_err();
        let expect = "the browser client is not built (nowhere/index.js is missing): run `cargo xtask demo`, or \
                      `cargo xtask npm` first";
        assert_eq!(error.to_string(), expect);
    }
}
