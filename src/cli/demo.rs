//! `demo`: the two-minute tour. It types what a user would type - every step is this
//! program started again with a home directory of its own, and is printed - and it
//! fails if anything that went in does not come back byte for byte.

mod sample;
mod search;
mod tour;

use super::exit::{Code, Failure};
use crate::config::format_size;
use crate::env::Env;
use anyhow::Result;
use sample::Sample;
use std::path::{Path, PathBuf};
use tour::Tour;

/// Objects of the store that are printed by name.
const OBJECTS_SHOWN: usize = 8;

/// Take the two-minute tour on a store in a temporary directory
#[derive(Debug, clap::Args)]
pub(super) struct Demo {
    /// Copy files from this directory
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
    /// Leave everything where it is at the end, unmounted
    #[arg(long)]
    keep: bool,
}

impl Demo {
    pub(super) fn run(&self) -> Result<()> {
        let env = Env::real();
        let started = env.monotonic();
        let source = match &self.from {
            Some(dir) => dir.canonicalize().map_err(|error| {
                let message = format!("name a directory that exists: {}", dir.display());
                Failure::because(Code::Usage, message, error)
            })?,
            None => sample::find_source()?,
        };
        let tour = Tour::new(&env, self.keep)?;
        let summary = go(&tour, &source)?;
        tour.heading("Summary");
        summary.print();
        println!("time      {} s", env.monotonic().saturating_sub(started).as_secs());
        Ok(())
    }
}

/// What the tour found.
struct Summary {
    compared: sample::Compared,
    store_bytes: u64,
    object_count: usize,
    searched_count: usize,
}

impl Summary {
    fn print(&self) {
        let compared = &self.compared;
        println!(
            "compared  {} files, {} links, {}: every byte is the same",
            compared.file_count,
            compared.link_count,
            format_size(compared.bytes)
        );
        println!("store     {} objects, {}", self.object_count, format_size(self.store_bytes));
        println!("searched  {} names and contents in it: none found", self.searched_count);
    }
}

fn go(tour: &Tour, source: &Path) -> Result<Summary> {
    let sample = Sample::collect(source)?;
    tour.heading("Make a vault. The store is a directory that nobody has to trust.");
    tour.write_password()?;
    tour.init()?;

    tour.heading("Mount it and copy real files into it.");
    tour.mount()?;
    let program = tour.copy_program()?;
    let inside = tour.mount_point().join("files");
    tour.say(&format!(
        "# copying {} files ({}) from {} to {}",
        sample.file_count(),
        format_size(sample.bytes()),
        source.display(),
        inside.display()
    ));
    sample.copy_to(&inside)?;
    tour.shell("ls", &["-l", &text(tour.mount_point())])?;
    tour.shell("df", &["-h", &text(tour.mount_point())])?;

    tour.heading("What the store sees: sealed objects.");
    tour.program(&["sync"])?;
    let before = tour.store_objects()?;
    show_objects(tour, &before);
    let searched_count = search_store(tour, &sample)?;

    tour.heading("A second copy of everything costs almost nothing.");
    let again = tour.mount_point().join("again");
    tour.shell("cp", &["-a", &text(&inside), &text(&again)])?;
    tour.program(&["sync"])?;
    let after = tour.store_objects()?;
    let grown = total(&after).saturating_sub(total(&before));
    tour.say(&format!("# the store grew by {}", format_size(grown)));

    tour.heading("Forget everything on this machine.");
    tour.unmount()?;
    tour.forget_machine()?;

    tour.heading("A new machine: store and password give everything back.");
    tour.init()?;
    tour.mount()?;
    let mut compared = sample.compare(&inside)?;
    compared.add(&sample.compare(&again)?);
    compared.add(&program.compare(tour.mount_point())?);
    tour.say(&format!("# compared {} files byte for byte", compared.file_count));
    tour.unmount()?;
    Ok(Summary { compared, store_bytes: total(&after), object_count: after.len(), searched_count })
}

fn show_objects(tour: &Tour, objects: &[(PathBuf, u64)]) {
    for (path, size) in objects.iter().take(OBJECTS_SHOWN) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        tour.say(&format!("{:>12}  {name}", format_size(*size)));
    }
    if objects.len() > OBJECTS_SHOWN {
        tour.say(&format!("{:>12}  and {} more", "…", objects.len() - OBJECTS_SHOWN));
    }
}

fn search_store(tour: &Tour, sample: &Sample) -> Result<usize> {
    let needles = sample.needles()?;
    let count = needles.len();
    let search = search::Search::new(needles);
    for (path, _) in tour.store_objects()? {
        if let Some(found) = search.find(&std::fs::read(&path)?) {
            let message = format!("do not trust this build: {} holds {found}", path.display());
            return Err(Failure::new(Code::Corrupt, message).into());
        }
    }
    tour.say(&format!("# searched it for {count} file names and contents: none found"));
    Ok(count)
}

fn total(objects: &[(PathBuf, u64)]) -> u64 {
    objects.iter().map(|(_, size)| size).sum()
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
