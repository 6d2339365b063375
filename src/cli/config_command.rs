//! `config`: what the configuration is, where it came from, and whether it is right.

use super::context::Context;
use super::render;
use super::session::parse_store_url;
use crate::config::{Effect, Kind, Setting, Source, format_size};
use anyhow::Result;
use serde_json::{Value, json};

/// Show or check the configuration
#[derive(Debug, clap::Args)]
pub(super) struct ConfigCommand {
    #[command(subcommand)]
    command: Subcommand,
}

#[derive(Debug, clap::Subcommand)]
enum Subcommand {
    /// Show every key with its value and where the value came from
    Show {
        /// Write JSON
        #[arg(long)]
        json: bool,
        /// Add what each key is for, what it takes and its environment variable
        #[arg(long)]
        long: bool,
    },
    /// Check the configuration, and name what has no effect in this build
    Check,
}

impl ConfigCommand {
    pub(super) fn run(&self, context: &Context) -> Result<()> {
        match self.command {
            Subcommand::Show { json: true, .. } => show_json(context),
            Subcommand::Show { long, .. } => show(context, long),
            Subcommand::Check => return check(context),
        }
        Ok(())
    }
}

fn show(context: &Context, is_long: bool) {
    let lines = context.loaded.settings.iter().map(|s| (s, shown(s)));
    let lines: Vec<_> = lines.collect();
    let width = lines.iter().map(|(s, value)| s.key.name.len() + value.len()).max().unwrap_or(0);
    for (setting, value) in lines {
        let pad = width - setting.key.name.len() - value.len();
        println!("{} = {value}{:pad$}  # {}", setting.key.name, "", setting.source);
        if is_long {
            println!("    {}", setting.key.help);
            println!("    {}; {}", setting.key.allowed(), setting.key.environment_name());
            if let Effect::Later { feature, .. } = setting.key.effect {
                println!("    no effect in this build: belongs to {feature}");
            }
        }
    }
}

fn shown(setting: &Setting) -> String {
    match (setting.key.kind, setting.shown()) {
        (_, Value::Null) => "(unset)".to_owned(),
        (Kind::Size { .. }, Value::Number(number)) => match number.as_u64() {
            Some(bytes) if bytes >= 1024 => format!("{bytes} ({})", format_size(bytes)),
            _ => number.to_string(),
        },
        (_, Value::String(text)) => text.escape_default().to_string(),
        (_, other) => other.to_string(),
    }
}

fn show_json(context: &Context) {
    let entries = context.loaded.settings.iter().map(|setting| {
        let source = match &setting.source {
            Source::Default => json!({"layer": "default"}),
            Source::File(path) => json!({"layer": "file", "path": path}),
            Source::Environment(name) => json!({"layer": "environment", "variable": name}),
            Source::Flag(flag) => json!({"layer": "flag", "flag": flag}),
        };
        (setting.key.name.to_owned(), json!({"value": setting.shown(), "source": source}))
    });
    render::print(&Value::Object(entries.collect()), true);
}

fn check(context: &Context) -> Result<()> {
    if let Some(url) = &context.loaded.config.store {
        parse_store_url(url)?;
    }
    match &context.loaded.file {
        Some(path) => println!("{} is right", path.display()),
        None => println!("there is no configuration file; the defaults are right"),
    }
    for (setting, feature) in context.loaded.without_effect() {
        println!("{} has no effect in this build: it belongs to {feature}", setting.key.name);
    }
    Ok(())
}
