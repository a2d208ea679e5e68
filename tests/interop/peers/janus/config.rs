//! Janus' folder of configuration.

use std::{
    fs, io,
    net::{IpAddr, SocketAddr, UdpSocket},
    os::unix::fs::symlink,
    path::Path,
    process::Command,
};

use crate::program::output;

/// What its admin interface wants to hear.
pub(super) const SECRET: &str = "interop";

/// What is not as Debian has it: only the plugin and the transport used here, on ports of their own.
pub(super) struct Config {
    pub(super) api: SocketAddr,
    pub(super) admin: SocketAddr,
    /// The address of its media.
    pub(super) media: IpAddr,
    pub(super) lite: bool,
}

impl Config {
    pub(super) fn write(&self, folder: &Path) -> Result<(), String> {
        let files = output(Command::new("dpkg-query").args(["-L", "janus"]))?;
        self.write_with(&files, folder).map_err(|error| format!("janus: {error}"))
    }

    fn write_with(&self, files: &str, folder: &Path) -> io::Result<()> {
        for kind in ["plugins", "transports", "events", "loggers"] {
            fs::create_dir(folder.join(kind))?;
        }
        for name in ["plugins/libjanus_echotest.so", "transports/libjanus_http.so"] {
            let library = files.lines().find(|file| file.ends_with(name));
            symlink(library.ok_or(io::ErrorKind::NotFound)?, folder.join(name))?;
        }
        fs::write(folder.join("janus.jcfg"), self.main(folder))?;
        fs::write(folder.join("janus.transport.http.jcfg"), self.http())?;
        fs::write(folder.join("janus.plugin.echotest.jcfg"), "general: { events = false }\n")
    }

    fn main(&self, folder: &Path) -> String {
        let (path, Self { media, lite, .. }) = (folder.display(), self);
        format!(
            "general: {{\n  configs_folder = \"{path}\"\n  plugins_folder = \"{path}/plugins\"\n  \
             transports_folder = \"{path}/transports\"\n  events_folder = \"{path}/events\"\n  \
             loggers_folder = \"{path}/loggers\"\n  admin_secret = \"{SECRET}\"\n  \
             session_timeout = 0\n}}\nmedia: {{ rtp_port_range = \"40000-40999\" }}\n\
             nat: {{\n  ice_enforce_list = \"{media}\"\n  ice_lite = {lite}\n}}\n"
        )
    }

    fn http(&self) -> String {
        let Self { api, admin, .. } = self;
        format!(
            "general: {{\n  json = \"plain\"\n  base_path = \"/janus\"\n  http = true\n  \
             ip = \"{}\"\n  port = {}\n  https = false\n}}\n\
             admin: {{\n  admin_base_path = \"/admin\"\n  admin_http = true\n  \
             admin_ip = \"{}\"\n  admin_port = {}\n  admin_https = false\n}}\n",
            api.ip(),
            api.port(),
            admin.ip(),
            admin.port()
        )
    }
}

/// The address that media can use. libnice never takes loopback, and sends by the interface of its
/// address only. Nothing is sent to find out.
pub(super) fn media_ip() -> Result<IpAddr, String> {
    let find = || {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect("192.0.2.1:9")?;
        socket.local_addr()
    };
    let found = find().map_err(|error| format!("no interface besides loopback: {error}"))?;
    Ok(found.ip())
}
