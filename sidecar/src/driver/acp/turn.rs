//! What an agent says and does in one turn: pieces of text joined, tools told once, plans shown
//! when they change.
//!
//! Agents differ in how they tell of a tool: some at once with all that there is to know, some
//! first with a name alone, some only when they ask or when it has ended. A tool is told when it
//! is known what it does, and at the latest when it ends.

use std::{collections::BTreeMap, path::Path};

use agent_client_protocol_schema::v1::{
    ContentBlock, ContentChunk, EmbeddedResourceResource, Plan, PlanEntryStatus, ToolCall,
    ToolCallStatus, ToolCallUpdate, ToolCallUpdateFields, ToolKind,
};
use serde_json::{Value, json};

use super::rules;
use crate::{
    driver::{Said, flow::Flow, words},
    wire::EventBody,
};

/// The most characters of a title.
const TITLE_CHARS: usize = 160;

/// One turn.
#[derive(Debug, Default)]
pub(super) struct Turn {
    id: String,
    text: Flow,
    thought: Flow,
    /// The message that the last piece of text belonged to.
    message: Option<String>,
    tools: BTreeMap<String, Tool>,
    plan: String,
    /// What came as text but may turn out to be the reason of a failure.
    held: String,
    /// Whether the agent says that its model has failed.
    is_broken: bool,
}

#[derive(Debug)]
struct Tool {
    call: ToolCall,
    is_told: bool,
    is_ended: bool,
}

impl Turn {
    /// A turn begins.
    pub(super) fn new(id: String) -> Self {
        Self { id, ..Self::default() }
    }

    /// Its id.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// The agent says a piece of text. `holds` says that pieces without a message's id are not
    /// the model's.
    pub(super) fn on_text(&mut self, chunk: &ContentChunk, holds: bool, out: &mut Vec<Said>) {
        let text = text_of(&chunk.content);
        let message = chunk.message_id.as_ref().map(|id| id.0.to_string());
        if holds && message.is_none() {
            self.held.push_str(&text);
            return;
        }
        self.let_go(out);
        if message != self.message {
            self.message = message;
            self.text.begin_block();
        }
        self.say(&text, out);
    }

    fn say(&mut self, text: &str, out: &mut Vec<Said>) {
        if let Some(text) = self.text.push(text) {
            out.push(Said::Text(self.id.clone(), text.into_bytes()));
        }
    }

    /// What was held was no failure.
    fn let_go(&mut self, out: &mut Vec<Said>) {
        if !self.held.is_empty() && !self.is_broken {
            let held = std::mem::take(&mut self.held);
            self.text.begin_block();
            self.say(&held, out);
            self.text.begin_block();
        }
    }

    /// The agent thinks aloud.
    pub(super) fn on_thought(&mut self, text: &str, out: &mut Vec<Said>) {
        if let Some(text) = self.thought.push(text) {
            out.push(Said::Thought(self.id.clone(), text.into_bytes()));
        }
    }

    /// The agent's model has failed, or works again.
    pub(super) fn set_broken(&mut self, is_broken: bool) {
        self.is_broken = is_broken;
    }

    /// Why the turn failed although the agent says that it did not.
    pub(super) fn failure(&self) -> Option<&str> {
        self.is_broken.then_some(self.held.as_str())
    }

    /// A tool is used.
    pub(super) fn on_tool(&mut self, call: ToolCall, out: &mut Vec<Said>) {
        let id = call.tool_call_id.0.to_string();
        let ToolCall {
            title, name, kind, status, content, locations, raw_input, raw_output, ..
        } = call;
        let fields = ToolCallUpdateFields::new()
            .title(title)
            .name(name)
            .kind(kind)
            .status(status)
            .content(content)
            .locations(locations)
            .raw_input(raw_input)
            .raw_output(raw_output);
        self.update(&id, fields, out);
    }

    /// Something is new about a tool.
    pub(super) fn on_tool_update(&mut self, update: ToolCallUpdate, out: &mut Vec<Said>) {
        let id = update.tool_call_id.0.to_string();
        self.update(&id, update.fields, out);
    }

    fn update(&mut self, id: &str, fields: ToolCallUpdateFields, out: &mut Vec<Said>) {
        self.let_go(out);
        let tool = self.tools.entry(id.to_owned()).or_insert_with(|| Tool {
            call: ToolCall::new(id.to_owned(), ""),
            is_told: false,
            is_ended: false,
        });
        if tool.is_ended {
            return;
        }
        tool.call.update(fields);
        // What it printed is not told, and may be large.
        tool.call.raw_output = None;
        let is_over =
            matches!(tool.call.status, ToolCallStatus::Completed | ToolCallStatus::Failed);
        let is_clear = tool.call.status != ToolCallStatus::Pending || has_input(&tool.call);
        if is_over || is_clear {
            self.tell_tool(id, out);
        }
        if is_over {
            self.end_tool(id, out);
        }
    }

    /// Tells of a tool, if that was not done.
    pub(super) fn tell_tool(&mut self, id: &str, out: &mut Vec<Said>) {
        let Some(tool) = self.tools.get_mut(id).filter(|tool| !tool.is_told) else { return };
        tool.is_told = true;
        // What is said behind a tool is a paragraph of its own.
        self.text.begin_block();
        self.thought.begin_block();
        out.push(Said::Event(EventBody::Tool {
            turn: self.id.clone(),
            id: id.to_owned(),
            name: name(&tool.call),
            title: title(&tool.call),
        }));
    }

    fn end_tool(&mut self, id: &str, out: &mut Vec<Said>) {
        let Some(tool) = self.tools.get_mut(id).filter(|tool| !tool.is_ended) else { return };
        tool.is_ended = true;
        // Nobody asks about it any more, and what it did may be large.
        tool.call.content = Vec::new();
        tool.call.raw_input = None;
        if !tool.is_told {
            return;
        }
        out.push(Said::Event(EventBody::ToolEnded {
            turn: self.id.clone(),
            id: id.to_owned(),
            failed: tool.call.status != ToolCallStatus::Completed,
        }));
    }

    /// What is known of a tool.
    pub(super) fn tool(&self, id: &str) -> Option<&ToolCall> {
        self.tools.get(id).map(|tool| &tool.call)
    }

    /// Whether a command was run, which may still run although the agent says that it has ended.
    pub(super) fn has_run_commands(&self) -> bool {
        let kinds = [ToolKind::Execute, ToolKind::Other];
        self.tools.values().any(|tool| kinds.contains(&tool.call.kind))
    }

    /// The agent tells its plan; only one that changed is shown.
    pub(super) fn on_plan(&mut self, plan: &Plan, out: &mut Vec<Said>) {
        let lines = plan.entries.iter().map(|entry| {
            let mark = match entry.status {
                PlanEntryStatus::Completed => "x",
                PlanEntryStatus::InProgress => ">",
                _ => " ",
            };
            format!("- [{mark}] {}\n", words::one_line(&entry.content, TITLE_CHARS * 2))
        });
        let text = format!("Plan:\n{}", lines.collect::<String>());
        if !plan.entries.is_empty() && text != self.plan {
            self.thought.begin_block();
            self.on_thought(&text, out);
            self.thought.begin_block();
            self.plan = text;
        }
    }

    /// The turn is over: what is still open ends.
    pub(super) fn end(&mut self, out: &mut Vec<Said>) {
        self.let_go(out);
        for id in self.tools.keys().cloned().collect::<Vec<_>>() {
            self.end_tool(&id, out);
        }
        if let Some(text) = self.text.close() {
            out.push(Said::Text(self.id.clone(), text.into_bytes()));
        }
    }
}

/// The name of a tool, as the agent has it; else its kind.
fn name(call: &ToolCall) -> String {
    let name = call.name.as_deref().filter(|name| !name.trim().is_empty());
    words::one_line(name.unwrap_or_else(|| rules::word(call.kind)), TITLE_CHARS)
}

/// What a tool does, in one line.
pub(super) fn title(call: &ToolCall) -> String {
    let kind = rules::word(call.kind);
    let text = match words::one_line(subject(call), TITLE_CHARS) {
        text if text.is_empty() => kind.to_owned(),
        text if call.kind == ToolKind::Execute => format!("{kind}: {text}"),
        text => text,
    };
    words::one_line(&text, TITLE_CHARS)
}

/// What a tool is about: the command that it runs, or its title.
pub(super) fn subject(call: &ToolCall) -> &str {
    let input = call.raw_input.as_ref();
    let command = input.and_then(|input| input["command"].as_str());
    match command.filter(|command| !command.trim().is_empty()) {
        Some(command) if call.kind == ToolKind::Execute => command,
        _ => call.title.as_str(),
    }
}

/// The files that a tool touches, as far as the agent says.
pub(super) fn paths(call: &ToolCall) -> Vec<&Path> {
    use agent_client_protocol_schema::v1::ToolCallContent;
    let diffs = call.content.iter().filter_map(|content| match content {
        ToolCallContent::Diff(diff) => Some(diff.path.as_path()),
        _ => None,
    });
    call.locations.iter().map(|location| location.path.as_path()).chain(diffs).collect()
}

/// What people are shown of a tool's input.
pub(super) fn input(call: &ToolCall) -> Value {
    if has_input(call)
        && let Some(input) = &call.raw_input
    {
        return words::fitting(input);
    }
    let content = serde_json::to_value(&call.content).unwrap_or_default();
    let paths: Vec<_> = call.locations.iter().map(|it| it.path.to_string_lossy()).collect();
    let mut input = json!({"title": call.title, "content": content, "paths": paths});
    if let Value::Object(members) = &mut input {
        members.retain(|_, member| !matches!(member, Value::Array(items) if items.is_empty()));
    }
    words::fitting(&input)
}

fn has_input(call: &ToolCall) -> bool {
    match &call.raw_input {
        None | Some(Value::Null) => false,
        Some(Value::Object(members)) => !members.is_empty(),
        Some(_) => true,
    }
}

/// The text of a piece of content, as far as it can be told as text.
pub(super) fn text_of(content: &ContentBlock) -> String {
    match content {
        ContentBlock::Text(text) => text.text.clone(),
        ContentBlock::ResourceLink(link) => format!("[{}]({})", link.name, link.uri),
        ContentBlock::Resource(resource) => match &resource.resource {
            EmbeddedResourceResource::TextResourceContents(it) => it.text.clone(),
            EmbeddedResourceResource::BlobResourceContents(it) => format!("[{}]", it.uri),
            _ => String::new(),
        },
        ContentBlock::Image(image) => format!("[image, {}]", image.mime_type),
        ContentBlock::Audio(audio) => format!("[sound, {}]", audio.mime_type),
        _ => String::new(),
    }
}

#[cfg(test)]
#[path = "turn_tests.rs"]
mod tests;
