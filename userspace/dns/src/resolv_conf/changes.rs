//! Noticing that the system's DNS has changed.
//!
//! By reading the files anew, and not by inotify: they are small and few, `/etc/resolv.conf` may be a
//! symbolic link, a bind mount or not there yet, and so may every folder on the way to the others.

use super::{Files, Paths, SystemDns, SystemDnsError, is_local};

/// Looks at the files again and again.
#[derive(Debug)]
pub struct Changes {
    paths: Paths,
    held: SystemDns,
    /// What the files held when they were last made use of, or given up.
    known: Files,
    /// What they held the last time, if that was new: somebody may be writing.
    unsettled: Option<Files>,
    /// The files are no good, and that has been said.
    complained: bool,
}

impl Changes {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// As [`SystemDns::read`].
    pub fn start(paths: Paths) -> Result<(SystemDns, Self), SystemDnsError> {
        let known = Files::read(&paths)?;
        let held = SystemDns::of(&known, &paths);
        let changes = Self { paths, held: held.clone(), known, unsettled: None, complained: false };
        Ok((held, changes))
    }

    /// Looks once; gives the system's DNS if it is another one.
    ///
    /// A change counts once it has been seen twice. Files without a server, or that cannot be read,
    /// change nothing; a warning says so, once until they are good again.
    pub fn look(&mut self) -> Option<SystemDns> {
        let files = match Files::read(&self.paths) {
            Ok(files) => files,
            Err(error) => {
                self.complain(&error);
                return None;
            }
        };
        if self.known == files {
            self.unsettled = None;
            return None;
        }
        if self.unsettled.as_ref() != Some(&files) {
            self.unsettled = Some(files);
            return None;
        }
        self.unsettled = None;
        let found = self.judge(&files);
        self.known = files;
        match found {
            Ok(found) => {
                self.complained = false;
                let news = found != self.held;
                self.held.clone_from(&found);
                news.then_some(found)
            }
            Err(fault) => {
                self.complain(&fault);
                None
            }
        }
    }

    fn judge(&self, files: &Files) -> Result<SystemDns, Fault> {
        let found = SystemDns::of(files, &self.paths);
        if !files.name_a_server(&self.paths) {
            return Err(Fault::NoServer);
        }
        // A stub that is being restarted has no servers of its own for a moment; to ask the stub in
        // their place would be to ask ourselves.
        let was_behind = self.held.upstreams != self.held.servers;
        let lost = found.upstreams == found.servers && found.servers == self.held.servers;
        if was_behind && lost && found.servers.iter().any(|server| is_local(server.ip())) {
            return Err(Fault::NothingBehindStub);
        }
        Ok(found)
    }

    fn complain(&mut self, why: &dyn std::error::Error) {
        if !self.complained {
            let path = self.paths.resolv_conf.display();
            tracing::warn!(%path, error = %why, "the DNS servers stay as they are");
        }
        self.complained = true;
    }
}

/// Why new files are not made use of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Fault {
    #[error("it names no server")]
    NoServer,
    #[error("the servers behind its local stub are gone")]
    NothingBehindStub,
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    struct World {
        folder: tempfile::TempDir,
        changes: Changes,
    }

    impl World {
        fn new(resolv_conf: &str) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let at = |name| folder.path().join(name);
            fs::write(at("resolv.conf"), resolv_conf).unwrap();
            let paths =
                Paths { resolv_conf: at("resolv.conf"), behind_stub: vec![at("stub/resolv.conf")] };
            let (_, changes) = Changes::start(paths).unwrap();
            Self { folder, changes }
        }

        /// As every careful writer does.
        fn write(&self, name: &str, text: &str) {
            let path = self.folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let new = self.folder.path().join("new");
            fs::write(&new, text).unwrap();
            fs::rename(new, path).unwrap();
        }

        /// The upstreams after a change, or nothing where nothing has changed.
        fn look(&mut self) -> Option<String> {
            let once = self.changes.look();
            assert_eq!(once, None, "a change counts the second time");
            let found = self.changes.look()?;
            let shown: Vec<_> = found.upstreams.iter().map(|at| at.ip().to_string()).collect();
            Some(shown.join(" "))
        }
    }

    #[test]
    fn every_way_to_change_a_file() {
        let mut world = World::new("nameserver 203.0.113.1\n");
        assert_eq!(world.look(), None);
        world.write("resolv.conf", "# a comment\nnameserver 203.0.113.1\n");
        assert_eq!(world.look(), None);
        world.write("resolv.conf", "nameserver 203.0.113.2\n");
        assert_eq!(world.look().unwrap(), "203.0.113.2");
        fs::write(world.folder.path().join("resolv.conf"), "nameserver 203.0.113.3\n").unwrap();
        assert_eq!(world.look().unwrap(), "203.0.113.3");
        world.write("elsewhere.conf", "nameserver 203.0.113.4\n");
        fs::remove_file(world.folder.path().join("resolv.conf")).unwrap();
        symlink("elsewhere.conf", world.folder.path().join("resolv.conf")).unwrap();
        assert_eq!(world.look().unwrap(), "203.0.113.4");
        world.write("elsewhere.conf", "nameserver 203.0.113.5\nnameserver 203.0.113.6\n");
        assert_eq!(world.look().unwrap(), "203.0.113.5 203.0.113.6");
        assert_eq!(world.look(), None);
    }

    #[test]
    fn the_files_behind_a_stub_count_as_well() {
        let mut world = World::new("nameserver 203.0.113.1\n");
        world.write("resolv.conf", "nameserver 127.0.0.53\n");
        assert_eq!(world.look().unwrap(), "127.0.0.53");
        world.write("stub/resolv.conf", "nameserver 203.0.113.7\n");
        assert_eq!(world.look().unwrap(), "203.0.113.7");
        world.write("stub/resolv.conf", "nameserver 203.0.113.8\n");
        assert_eq!(world.look().unwrap(), "203.0.113.8");
        // Its service is restarted.
        fs::remove_dir_all(world.folder.path().join("stub")).unwrap();
        assert_eq!(world.look(), None);
        assert!(world.changes.complained);
        world.write("stub/resolv.conf", "nameserver 203.0.113.9\n");
        assert_eq!(world.look().unwrap(), "203.0.113.9");
        assert!(!world.changes.complained);
    }

    #[test]
    fn the_last_good_ones_stay() {
        let mut world = World::new("nameserver 203.0.113.1\n");
        for bad in ["", "nameserver\n", "nonsense 1\nnameserver a.b.c.d\n"] {
            world.write("resolv.conf", bad);
            assert_eq!(world.look(), None, "{bad:?}");
            assert!(world.changes.complained, "{bad:?}");
        }
        fs::remove_file(world.folder.path().join("resolv.conf")).unwrap();
        assert_eq!(world.look(), None);
        fs::create_dir(world.folder.path().join("resolv.conf")).unwrap();
        assert_eq!(world.look(), None);
        fs::remove_dir(world.folder.path().join("resolv.conf")).unwrap();
        // The same as before all that is no news.
        world.write("resolv.conf", "nameserver 203.0.113.1\n");
        assert_eq!(world.look(), None);
        assert!(!world.changes.complained);
        world.write("resolv.conf", "nameserver 203.0.113.2\n");
        assert_eq!(world.look().unwrap(), "203.0.113.2");
    }
}
