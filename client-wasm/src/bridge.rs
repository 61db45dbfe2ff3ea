//! The JavaScript that the client calls, bound as it is found in pages, workers and Node alike.

use wasm_bindgen::prelude::*;

#[wasm_bindgen]
extern "C" {
    /// The global object, whatever it is called.
    #[wasm_bindgen(thread_local_v2, js_name = globalThis)]
    pub(crate) static GLOBAL: Global;

    /// A function that does nothing and is there everywhere.
    #[wasm_bindgen(thread_local_v2, js_namespace = Function, js_name = prototype)]
    pub(crate) static NOTHING: js_sys::Function;

    /// The global object's members that are not everywhere.
    #[derive(Clone)]
    pub(crate) type Global;

    #[wasm_bindgen(method, getter, structural)]
    pub(crate) fn document(this: &Global) -> Option<Document>;

    #[wasm_bindgen(method, getter, structural, js_name = reportError)]
    pub(crate) fn report_error_function(this: &Global) -> Option<js_sys::Function>;

    #[wasm_bindgen(method, getter, structural, js_name = addEventListener)]
    fn add_event_listener_function(this: &Global) -> Option<js_sys::Function>;

    /// What page events are dispatched on.
    #[derive(Clone)]
    pub(crate) type Target;

    #[wasm_bindgen(method, structural, js_name = addEventListener)]
    pub(crate) fn add_listener(this: &Target, kind: &str, listener: &JsValue);

    #[wasm_bindgen(method, structural, js_name = removeEventListener)]
    pub(crate) fn remove_listener(this: &Target, kind: &str, listener: &JsValue);

    #[wasm_bindgen(extends = Target)]
    #[derive(Clone)]
    pub(crate) type Document;

    #[wasm_bindgen(method, getter, structural)]
    pub(crate) fn hidden(this: &Document) -> bool;

    /// Any event; which members it has depends on its kind.
    pub(crate) type PageEvent;

    #[wasm_bindgen(method, getter, structural, js_name = type)]
    pub(crate) fn kind(this: &PageEvent) -> String;

    #[wasm_bindgen(method, getter, structural)]
    pub(crate) fn persisted(this: &PageEvent) -> Option<bool>;

    /// A socket's `message` event.
    pub(crate) type MessageEvent;

    #[wasm_bindgen(method, getter, structural)]
    pub(crate) fn data(this: &MessageEvent) -> JsValue;

    /// Any object, array or error, by its fields.
    #[derive(Clone)]
    pub(crate) type Fields;

    #[wasm_bindgen(constructor, js_class = Object)]
    pub(crate) fn new() -> Fields;

    /// `None` when the field is absent or null.
    #[wasm_bindgen(method, structural, indexing_getter)]
    pub(crate) fn get(this: &Fields, name: &str) -> Option<JsValue>;

    #[wasm_bindgen(method, structural, indexing_getter)]
    pub(crate) fn get_value(this: &Fields, name: &JsValue) -> JsValue;

    /// `None` when the field is absent or null.
    #[wasm_bindgen(method, structural, indexing_getter)]
    pub(crate) fn get_present(this: &Fields, name: &JsValue) -> Option<JsValue>;

    #[wasm_bindgen(method, structural, indexing_setter)]
    pub(crate) fn set_value(this: &Fields, name: &str, value: &JsValue);

    #[wasm_bindgen(js_name = setTimeout)]
    pub(crate) fn set_timeout(callback: &JsValue, milliseconds: u32) -> JsValue;

    #[wasm_bindgen(js_name = clearTimeout)]
    pub(crate) fn clear_timeout(timer: &JsValue);

    #[wasm_bindgen(js_namespace = Date, js_name = now)]
    pub(crate) fn date_now() -> f64;

    #[wasm_bindgen(js_namespace = Math, js_name = random)]
    fn math_random() -> f64;

    /// The engine's own parser on the engine's own string: the text is not copied into this module.
    #[wasm_bindgen(catch, js_namespace = JSON, js_name = parse)]
    pub(crate) fn parse_json(text: &JsValue) -> Result<JsValue, JsValue>;
}

impl Fields {
    /// A field's text; `None` when it is absent or no string.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        self.get(name)?.as_string()
    }

    /// A field's number; `None` when it is absent, no number, or below 0.
    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        whole(self.get(name)?.as_f64()?)
    }
}

impl Global {
    pub(crate) fn current() -> Self {
        GLOBAL.with(Clone::clone)
    }

    /// The global object as a target of events, where it is one.
    pub(crate) fn as_target(&self) -> Option<Target> {
        self.add_event_listener_function()?;
        Some(self.clone().unchecked_into())
    }
}

/// 64 random bits: for jitter and for keys that must differ between clients, not for secrets.
pub(crate) fn random_seed() -> u64 {
    let bits = || (math_random() * 4_294_967_296.0) as u64;
    (bits() << 32) | bits()
}

/// A number that counts something; `None` for a fraction, a negative number, and what JavaScript cannot count to.
pub(crate) fn whole(number: f64) -> Option<u64> {
    let is_whole = (0.0..=MAX_SAFE).contains(&number) && number % 1.0 == 0.0;
    is_whole.then_some(number as u64)
}

const MAX_SAFE: f64 = 9_007_199_254_740_991.0;
