// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The Debian mirror: which one, and which version of the kernel it has.
//!
//! The host's apt does the work (transfer, signatures, proxies), on a state of its own in the
//! cache, so that neither the host's sources nor its package lists change.

use super::series::{is_of, Archive, Series};
use super::{host, Resolved, FLAVOUR};
use crate::run::{self, Log};
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// What a search for a kernel came to.
type Found = Result<(Mirror, Resolved), String>;

/// A mirror, of which one archive is used.
pub(super) struct Mirror {
    address: String,
    pub(super) archive: &'static Archive,
}

/// The newest kernel of a series, and the first archive that has it; or why none has.
pub(super) fn resolve(series: Series, cache: &Path, log: &Log) -> Result<Found> {
    let mut reasons = Vec::new();
    for archive in series.archives() {
        let mirror = Mirror::find(archive)?;
        mirror.update(cache, log)?;
        match mirror.newest(series, cache)? {
            Ok(resolved) => return Ok(Ok((mirror, resolved))),
            Err(reason) => reasons.push(reason),
        }
    }
    Ok(Err(reasons.join("; ")))
}

impl Mirror {
    /// The mirror that the host itself uses, or the one in `VBD_MIRROR`.
    pub(super) fn find(archive: &'static Archive) -> Result<Mirror> {
        if let Ok(address) = std::env::var("VBD_MIRROR") {
            return Ok(Mirror { address, archive });
        }
        let address = mirror_of(&host::sources()?, &host::codename()?)
            .context("apt has no Debian mirror configured: set VBD_MIRROR to the address of one")?;
        Ok(Mirror { address, archive })
    }

    /// The mirror's suites as lines of a sources.list.
    pub(super) fn sources(&self) -> [String; 2] {
        let address = &self.address;
        [self.archive.suite, self.archive.carrier]
            .map(|suite| format!("deb [signed-by={KEYRING}] {address} {suite} main"))
    }

    /// Fetches the mirror's package lists.
    fn update(&self, cache: &Path, log: &Log) -> Result<()> {
        let apt = self.state(cache);
        for directory in ["lists/partial", "archives/partial"] {
            fs::create_dir_all(apt.join(directory))?;
        }
        fs::write(apt.join("status"), "")?;
        fs::write(apt.join("sources.list"), self.sources().join("\n") + "\n")?;
        // Without this, a mirror that cannot be reached is only worth a warning to apt.
        let mut update = self.apt(cache, "apt-get");
        update.args(["-o", "APT::Update::Error-Mode=any"]);
        log.run(update.arg("update")).with_context(|| {
            let address = &self.address;
            format!("cannot fetch the package lists of {address} (VBD_MIRROR can name another)")
        })
    }

    /// The newest kernel of the series that the mirror has completely.
    fn newest(&self, series: Series, cache: &Path) -> Result<Result<Resolved, String>> {
        let list = run::stdout(self.apt(cache, "apt-cache").arg("dumpavail"))?;
        Ok(match newest_kernel(&list, series.number()?) {
            Ok((release, version)) => Ok(Resolved {
                release,
                version,
                suite: (!self.is_the_kits()).then(|| self.archive.suite.to_string()),
            }),
            Err(reason) => Err(format!("{} in {}", reason, self.archive.carrier)),
        })
    }

    /// Whether the archive is the one that the stock kit comes from.
    fn is_the_kits(&self) -> bool {
        Series::Kit.archives().contains(self.archive)
    }

    /// Where apt keeps what it knows about the archive.
    fn state(&self, cache: &Path) -> PathBuf {
        cache.join(match self.is_the_kits() {
            true => "apt".to_string(),
            false => format!("apt-{}", self.archive.carrier),
        })
    }

    /// Fetches one package into the cache, unless it is there, and hands back its path.
    pub(super) fn download(
        &self,
        cache: &Path,
        package: &str,
        version: &str,
        log: &Log,
    ) -> Result<PathBuf> {
        let directory = cache.join("debs");
        fs::create_dir_all(&directory)?;
        // Apt writes the file under a partial name first, so one that is there is whole.
        let written = version.replace(':', "%3a");
        for architecture in ["all", "amd64"] {
            let path = directory.join(format!("{package}_{written}_{architecture}.deb"));
            if path.is_file() {
                return Ok(path);
            }
        }
        let mut download = self.apt(cache, "apt-get");
        download.current_dir(&directory).arg("download");
        log.run(download.arg(format!("{package}={version}")))?;
        let found = ["all", "amd64"]
            .map(|architecture| directory.join(format!("{package}_{written}_{architecture}.deb")));
        let found = found.into_iter().find(|path| path.is_file());
        found.with_context(|| format!("apt-get download left no {package} in the cache"))
    }

    fn apt(&self, cache: &Path, program: &str) -> Command {
        let apt = self.state(cache);
        let mut command = Command::new(program);
        let mut option = |name: &str, value: &str| {
            command.arg("-o").arg(format!("{name}={value}"));
        };
        let inside = |name: &str| apt.join(name).display().to_string();
        option("Dir::Etc::SourceList", &inside("sources.list"));
        option("Dir::Etc::SourceParts", "/dev/null");
        option("Dir::State::Lists", &inside("lists"));
        option("Dir::State::status", &inside("status"));
        option("Dir::Cache", &apt.display().to_string());
        option("APT::Architecture", "amd64");
        option("Acquire::Languages", "none");
        // Release files say for how long they hold, and a mirror that stands still is past that;
        // signatures are checked all the same, and all versions come from one set of lists.
        option("Acquire::Check-Valid-Until", "false");
        // The sandbox user cannot enter a cache below /root.
        option("APT::Sandbox::User", "root");
        command
    }
}

/// Picks the Debian archive out of apt's sources (suite, component, address a line).
fn mirror_of(sources: &str, codename: &str) -> Option<String> {
    let fields = |line: &str| {
        let mut words = line.split_whitespace().map(str::to_string);
        Some((words.next()?, words.next()?, words.next()?))
    };
    let all: Vec<(String, String, String)> = sources.lines().filter_map(fields).collect();
    let names = [
        codename,
        "stable",
        "oldstable",
        "testing",
        "unstable",
        "sid",
    ];
    let main = |suite: &str| names.contains(&suite);
    let candidates: Vec<_> = all
        .iter()
        .filter(|(suite, part, _)| main(suite) && part == "main")
        .collect();
    // Others publish under Debian's codenames too, but only Debian has an -updates suite.
    let debian = candidates.iter().find(|(name, _, address)| {
        all.iter()
            .any(|(suite, _, other)| other == address && *suite == format!("{name}-updates"))
    });
    let chosen = debian.or(candidates.first())?;
    Some(chosen.2.trim_end_matches('/').to_string())
}

/// Finds the kernel in the mirror's package lists, which are in Debian's control format.
///
/// The source package decides, since metadata is built from it: the headers must be of the very
/// same version.
fn newest_kernel(list: &str, series: &str) -> Result<(String, String), String> {
    let field = |paragraph: &str, name: &str| {
        let mut lines = paragraph.lines();
        lines.find_map(|line| {
            line.strip_prefix(name)?
                .strip_prefix(": ")
                .map(str::to_string)
        })
    };
    let packages = || {
        list.split("\n\n").filter_map(|paragraph| {
            Some((field(paragraph, "Package")?, field(paragraph, "Version")?))
        })
    };
    let source = format!("linux-source-{series}");
    let Some((_, version)) = packages().find(|(name, _)| *name == source) else {
        return Err(format!("there is no {source}"));
    };
    let release = |name: &str| {
        let release = name.strip_prefix("linux-headers-")?;
        let ours = is_of(release, series) && release.ends_with(&format!("-{FLAVOUR}"));
        ours.then(|| release.to_string())
    };
    let headers = packages().filter(|(_, of)| *of == version);
    let found = headers.filter_map(|(name, _)| release(&name)).next();
    let Some(release) = found else {
        return Err(format!(
            "{source} is {version}, but no linux-headers-{series}*-{FLAVOUR} is"
        ));
    };
    Ok((release, version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_is_told_from_others_that_use_its_codenames() {
        let sources = "bookworm main https://apt.example.org/\n\
                       nodistro main https://deb.example.org/node_20.x/\n\
                       bookworm main http://mirror.example/debian/\n\
                       bookworm-updates main http://mirror.example/debian/\n\
                       bookworm-security main http://mirror.example/debian-security/\n";
        let found = mirror_of(sources, "bookworm");
        assert_eq!(found.as_deref(), Some("http://mirror.example/debian"));
        assert_eq!(mirror_of("nodistro main http://x/\n", "bookworm"), None);
        let alone = "stable main http://only.example/debian\n";
        assert_eq!(
            mirror_of(alone, "trixie").as_deref(),
            Some("http://only.example/debian")
        );
    }

    const LIST: &str = "Package: linux-headers-7.2.11+deb13-cloud-amd64\n\
        Version: 7.2.11-1~bpo13+1\n\n\
        Package: linux-headers-7.2.12+deb13-amd64\n\
        Version: 7.2.12-1~bpo13+1\n\n\
        Package: linux-headers-7.2.12+deb13-cloud-amd64\n\
        Source: linux\n\
        Version: 7.2.12-1~bpo13+1\n\n";

    #[test]
    fn the_kernel_is_the_one_whose_source_is_there() {
        let list = format!("{LIST}Package: linux-source-7.2\nVersion: 7.2.12-1~bpo13+1\n");
        let (release, version) = newest_kernel(&list, "7.2").unwrap();
        assert_eq!(release, "7.2.12+deb13-cloud-amd64");
        assert_eq!(version, "7.2.12-1~bpo13+1");
    }

    #[test]
    fn a_mirror_that_is_half_updated_or_past_the_series_is_refused() {
        let gone = newest_kernel(LIST, "7.2").unwrap_err();
        assert!(gone.contains("no linux-source-7.2"), "{gone}");
        let list = format!("{LIST}Package: linux-source-7.2\nVersion: 7.2.13-1~bpo13+1\n");
        let half = newest_kernel(&list, "7.2").unwrap_err();
        assert!(half.contains("7.2.13-1~bpo13+1"), "{half}");
    }
}
