//! Every setting there is, in words: the documentation, `config` and the log tell them from here.

/// One row of the table of settings, for the documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Described {
    /// The flag of `serve`, or nothing.
    pub flag: &'static str,
    /// The environment variable, or nothing.
    pub variable: &'static str,
    /// The key in the configuration file, or nothing.
    pub key: &'static str,
    /// The default, in words.
    pub default: &'static str,
    /// What it sets.
    pub what: &'static str,
}

/// Every setting, in the order in which the documentation lists them.
pub const SETTINGS: [Described; 29] = [
    Described {
        flag: "--data",
        variable: "OPEN_DISPATCH_DATA",
        key: "",
        default: "`$XDG_STATE_HOME/open-dispatch`, else `~/.local/state/open-dispatch`",
        what: "The data directory: store, tokens, runs, clones.",
    },
    Described {
        flag: "--config",
        variable: "OPEN_DISPATCH_CONFIG",
        key: "",
        default: "`config.yaml` in the data directory, if it is there",
        what: "The configuration file.",
    },
    Described {
        flag: "--listen",
        variable: "OPEN_DISPATCH_LISTEN",
        key: "listen",
        default: "`127.0.0.1:8080`",
        what: "Where the server listens: an address, a port, or both.",
    },
    Described {
        flag: "--tls-names",
        variable: "OPEN_DISPATCH_TLS_NAMES",
        key: "tlsNames",
        default: "`localhost`, `127.0.0.1` and `::1`, which are always there",
        what: "Further names and addresses by which clients reach the server over TLS, separated by \
               commas.",
    },
    Described {
        flag: "",
        variable: "WEBHOOK_PORT",
        key: "",
        default: "`8080`",
        what: "The port, where no other setting names one.",
    },
    Described {
        flag: "--chat",
        variable: "CHAT_PROVIDER",
        key: "chat",
        default: "`console`",
        what: "The chat platforms, with commas between: `console`, `slack`, `discord`, `teams`; or \
               `none`.",
    },
    Described {
        flag: "--max-sprites",
        variable: "OPEN_DISPATCH_MAX_SPRITES",
        key: "maxSprites",
        default: "twice the number of CPUs, at least 4",
        what: "How many sprites may live on this machine at once; the others wait in order.",
    },
    Described {
        flag: "--log-format",
        variable: "OPEN_DISPATCH_LOG_FORMAT",
        key: "logFormat",
        default: "`text`",
        what: "How the log is written: `text` or `json`.",
    },
    Described {
        flag: "",
        variable: "OPEN_DISPATCH_LOG",
        key: "log",
        default: "`info`",
        what: "What is logged, as `level` or `target=level,...`.",
    },
    Described {
        flag: "",
        variable: "OPEN_DISPATCH_STORE",
        key: "store",
        default: "the data directory",
        what: "The directory that holds the store. `DATABASE_URL` is never the server's own.",
    },
    Described {
        flag: "",
        variable: "JOB_TOKEN_SECRET",
        key: "",
        default: "a key drawn once, in the data directory",
        what: "The key from which the sprites' tokens are derived. A server with another one than \
               living sprites were started with does not start.",
    },
    Described {
        flag: "",
        variable: "OPEN_DISPATCH_PASS_ENV",
        key: "passEnv",
        default: "nothing",
        what: "Names of further variables that agents inherit from the server, separated by \
               commas.",
    },
    Described {
        flag: "",
        variable: "OPEN_DISPATCH_ROOTS",
        key: "roots",
        default: "the home of the user who runs the server",
        what: "The directories within which agents may work, separated by colons.",
    },
    Described {
        flag: "--specs",
        variable: "OPEN_DISPATCH_SPECS",
        key: "specs",
        default: "`specs` where the server is started, if it is there",
        what: "The directories whose YAML files the server keeps up, separated by colons; or `none`. The flag may stand several times.",
    },
    Described {
        flag: "",
        variable: "OPEN_DISPATCH_ADMINS",
        key: "admins",
        default: "nobody",
        what: "The first admins: who may do everything from chat, each as `PLATFORM:USER` with the \
               platform's own id, separated by commas.",
    },
    Described {
        flag: "",
        variable: "SPRITE_AGENT_TYPE",
        key: "agent",
        default: "the first of `claude`, `opencode`, `codex-acp` that is found on the `PATH`; \
                  on the console `command` where none is",
        what: "The agent of who names none: `claude`, `opencode`, `codex`, `gemini` or `command`.",
    },
    Described {
        flag: "",
        variable: "OPENCODE_MODEL",
        key: "opencodeModel",
        default: "OpenCode's own",
        what: "OpenCode's model, as `provider/model`, where a spec names none.",
    },
    Described {
        flag: "",
        variable: "OPEN_DISPATCH_RUNTIME",
        key: "runtime",
        default: "`local`; `fly` where the server is itself a Fly Machine and has machines configured",
        what: "Where what names no place runs: `local` or `fly`.",
    },
    Described {
        flag: "",
        variable: "FLY_API_TOKEN",
        key: "",
        default: "no machines",
        what: "The token for the Machines API. With it, `FLY_SPRITE_APP` and `SPRITE_IMAGE` are needed.",
    },
    Described {
        flag: "",
        variable: "FLY_SPRITE_APP",
        key: "fly.app",
        default: "no machines",
        what: "The Fly app whose machines are the sprites.",
    },
    Described {
        flag: "",
        variable: "SPRITE_IMAGE",
        key: "fly.image",
        default: "none; needed unless there are aliases",
        what: "The image of who names none: a whole reference, or an alias.",
    },
    Described {
        flag: "",
        variable: "SPRITE_IMAGES",
        key: "fly.images",
        default: "none",
        what: "Images by alias: a JSON object, and a map in the file.",
    },
    Described {
        flag: "",
        variable: "OPEN_DISPATCH_ALLOWED_IMAGES",
        key: "fly.allowedImages",
        default: "every image",
        what: "Beginnings of the images that may be named beside those that are configured, separated by commas.",
    },
    Described {
        flag: "",
        variable: "FLY_REGION",
        key: "fly.region",
        default: "`iad`",
        what: "The regions of machines in the order in which they are tried, separated by commas. On Fly the platform sets the variable to where the server is, and there the key goes before it.",
    },
    Described {
        flag: "",
        variable: "OPEN_DISPATCH_REGION",
        key: "",
        default: "`FLY_REGION`",
        what: "The same, before all else.",
    },
    Described {
        flag: "",
        variable: "OPEN_DISPATCH_URL",
        key: "fly.server",
        default: "`http://$FLY_APP_NAME.internal:PORT` on Fly, else `http://open-dispatch.internal:8080`",
        what: "How machines reach the server.",
    },
    Described {
        flag: "",
        variable: "OPEN_DISPATCH_MAX_MACHINES",
        key: "fly.maxMachines",
        default: "`50`",
        what: "How many machines may live at once; the others wait in order.",
    },
    Described {
        flag: "",
        variable: "OPEN_DISPATCH_SPRITE_SECRETS",
        key: "fly.secretsBy",
        default: "`environment`",
        what: "How machines get their secrets: in their `environment`, which Fly's API shows to who may read the app, or by `claim`, from the server itself.",
    },
    Described {
        flag: "",
        variable: "FLY_FLAPS_BASE_URL",
        key: "",
        default: "`https://api.machines.dev`",
        what: "The Machines API, where it is another one.",
    },
];
