#include "server/storage/schema.h"

// The schema, one entry a version, only ever appended to. Times are milliseconds since 1970; hashes
// of large content are raw bytes, git object ids are 40 hex digits.

namespace pretrained::server {

const std::vector<const char*>& migrations() {
  static const std::vector<const char*> list = {R"sql(
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;

-- accounts --------------------------------------------------------------------------------------
CREATE TABLE accounts (
  id INTEGER PRIMARY KEY,
  kind TEXT NOT NULL CHECK (kind IN ('user', 'org')),
  name TEXT NOT NULL UNIQUE COLLATE NOCASE,
  fullname TEXT NOT NULL DEFAULT '',
  email TEXT NOT NULL DEFAULT '',
  is_admin INTEGER NOT NULL DEFAULT 0,       -- of the whole hub
  password_hash TEXT,                        -- argon2id; none: tokens only
  disabled INTEGER NOT NULL DEFAULT 0,
  quota_bytes INTEGER,                       -- none: no limit
  created_at INTEGER NOT NULL) STRICT;
CREATE TABLE members (
  org INTEGER NOT NULL REFERENCES accounts ON DELETE CASCADE,
  user INTEGER NOT NULL REFERENCES accounts ON DELETE CASCADE,
  role TEXT NOT NULL CHECK (role IN ('read', 'write', 'admin')),
  PRIMARY KEY (org, user)) STRICT, WITHOUT ROWID;
CREATE INDEX members_by_user ON members (user);
CREATE TABLE tokens (
  id INTEGER PRIMARY KEY,
  user INTEGER NOT NULL REFERENCES accounts ON DELETE CASCADE,
  name TEXT NOT NULL,
  hash BLOB NOT NULL UNIQUE,                 -- sha256 of the whole token
  role TEXT NOT NULL CHECK (role IN ('read', 'write', 'fineGrained')),
  scopes TEXT NOT NULL DEFAULT '{}',         -- fineGrained: {"model/org/name": "read"|"write"|"admin"}
  created_at INTEGER NOT NULL,
  expires_at INTEGER,
  last_used_at INTEGER,
  revoked_at INTEGER,
  UNIQUE (user, name)) STRICT;
CREATE TABLE device_codes (
  hash BLOB PRIMARY KEY,                     -- sha256 of the device code
  user_code TEXT NOT NULL UNIQUE,
  client_id TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('pending', 'approved', 'denied')),
  user INTEGER REFERENCES accounts ON DELETE CASCADE,
  last_poll_at INTEGER NOT NULL DEFAULT 0,
  expires_at INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE refresh_tokens (
  hash BLOB PRIMARY KEY,
  user INTEGER NOT NULL REFERENCES accounts ON DELETE CASCADE,
  token INTEGER REFERENCES tokens ON DELETE CASCADE,   -- the access token it gave
  replaced_at INTEGER,                       -- a lost answer is forgiven for a while
  expires_at INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE audit (
  id INTEGER PRIMARY KEY,
  at INTEGER NOT NULL,
  account TEXT NOT NULL,
  address TEXT NOT NULL,
  request TEXT NOT NULL,
  action TEXT NOT NULL,                      -- "repo.create", "token.revoke", …
  subject TEXT NOT NULL,
  detail TEXT NOT NULL DEFAULT '') STRICT;

-- repositories ----------------------------------------------------------------------------------
CREATE TABLE repos (
  id INTEGER PRIMARY KEY,
  uid TEXT NOT NULL UNIQUE,                  -- 24 hex digits: `_id` of the API
  type TEXT NOT NULL CHECK (type IN ('model', 'dataset', 'space')),
  owner INTEGER NOT NULL REFERENCES accounts,
  name TEXT NOT NULL COLLATE NOCASE,
  private INTEGER NOT NULL DEFAULT 0,
  gated TEXT CHECK (gated IN ('auto', 'manual')),
  disabled INTEGER NOT NULL DEFAULT 0,
  generation INTEGER NOT NULL DEFAULT 0,     -- grows with every change of references or packs
  used_bytes INTEGER NOT NULL DEFAULT 0,
  downloads INTEGER NOT NULL DEFAULT 0,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  -- of the head of main, for lists: what README.md, config.json and the weights say
  tags TEXT NOT NULL DEFAULT '[]',
  pipeline_tag TEXT,
  library_name TEXT,
  card TEXT,                                 -- JSON: cardData
  config TEXT,                               -- JSON
  weights TEXT,                              -- JSON: {"parameters": {…}, "total": n}
  parameters INTEGER,
  sdk TEXT,                                  -- spaces
  UNIQUE (type, owner, name)) STRICT;
CREATE INDEX repos_by_update ON repos (type, updated_at);
CREATE TABLE moves (                         -- old names, for redirects
  type TEXT NOT NULL, owner TEXT NOT NULL COLLATE NOCASE, name TEXT NOT NULL COLLATE NOCASE,
  repo INTEGER NOT NULL REFERENCES repos ON DELETE CASCADE,
  PRIMARY KEY (type, owner, name)) STRICT, WITHOUT ROWID;
CREATE TABLE refs (
  repo INTEGER NOT NULL REFERENCES repos ON DELETE CASCADE,
  name TEXT NOT NULL,                        -- "refs/heads/main"
  target TEXT NOT NULL,
  PRIMARY KEY (repo, name)) STRICT, WITHOUT ROWID;
CREATE TABLE packs (
  id INTEGER PRIMARY KEY,
  repo INTEGER NOT NULL REFERENCES repos ON DELETE CASCADE,
  checksum TEXT NOT NULL,                    -- "pack-<checksum>.pack"
  pack_blob TEXT NOT NULL,
  index_blob TEXT NOT NULL,
  bytes INTEGER NOT NULL,
  objects INTEGER NOT NULL,
  UNIQUE (repo, checksum)) STRICT;
CREATE INDEX packs_by_pack_blob ON packs (pack_blob);
CREATE INDEX packs_by_index_blob ON packs (index_blob);
CREATE TABLE dropped_blobs (                 -- of deleted repositories, until garbage collection
  name TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;

-- The last commit of each path. A chain is a line of first parents; a commit that does not extend
-- the end of a chain starts a new one, which remembers where it left its own.
CREATE TABLE chains (
  id INTEGER PRIMARY KEY,
  repo INTEGER NOT NULL REFERENCES repos ON DELETE CASCADE,
  parent INTEGER REFERENCES chains,
  parent_position INTEGER) STRICT;
CREATE INDEX chains_by_repo ON chains (repo);
CREATE TABLE chain_commits (
  repo INTEGER NOT NULL REFERENCES repos ON DELETE CASCADE,
  oid TEXT NOT NULL,
  chain INTEGER NOT NULL REFERENCES chains,
  position INTEGER NOT NULL,
  PRIMARY KEY (repo, oid)) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX chain_commits_by_position ON chain_commits (chain, position);
CREATE TABLE path_changes (
  repo INTEGER NOT NULL REFERENCES repos ON DELETE CASCADE,
  folder TEXT NOT NULL,                      -- "" or "a/b"
  name TEXT NOT NULL,
  chain INTEGER NOT NULL,
  position INTEGER NOT NULL,
  PRIMARY KEY (repo, folder, name, chain, position)) STRICT, WITHOUT ROWID;

-- large content ---------------------------------------------------------------------------------
CREATE TABLE xorbs (
  hash BLOB PRIMARY KEY,
  blob TEXT NOT NULL,
  bytes INTEGER NOT NULL,                    -- as stored
  raw_bytes INTEGER NOT NULL,
  chunks INTEGER NOT NULL,
  chunk_table BLOB NOT NULL,                 -- a chunk: hash 32, record offset u32, raw length u32
  lease_until INTEGER NOT NULL) STRICT;      -- not collected before, referenced or not
CREATE INDEX xorbs_by_blob ON xorbs (blob);
CREATE TABLE xorb_access (                   -- who may build files of it
  xorb BLOB NOT NULL REFERENCES xorbs ON DELETE CASCADE,
  repo INTEGER NOT NULL REFERENCES repos ON DELETE CASCADE,
  lease_until INTEGER NOT NULL,
  PRIMARY KEY (xorb, repo)) STRICT, WITHOUT ROWID;
CREATE INDEX xorb_access_by_repo ON xorb_access (repo);
CREATE TABLE dedup_chunks (                  -- chunks that the global query knows
  chunk BLOB NOT NULL,
  xorb BLOB NOT NULL REFERENCES xorbs ON DELETE CASCADE,
  PRIMARY KEY (chunk, xorb)) STRICT, WITHOUT ROWID;
CREATE INDEX dedup_chunks_by_xorb ON dedup_chunks (xorb);
CREATE TABLE files (
  hash BLOB PRIMARY KEY,                     -- Xet hash
  size INTEGER NOT NULL,
  sha256 BLOB NOT NULL,
  terms BLOB NOT NULL,                       -- a term: xorb 32, first u32, end u32, raw length u32, range hash 32
  lease_until INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX files_by_sha256 ON files (sha256);
CREATE TABLE file_xorbs (
  file BLOB NOT NULL REFERENCES files ON DELETE CASCADE,
  xorb BLOB NOT NULL REFERENCES xorbs,
  PRIMARY KEY (file, xorb)) STRICT, WITHOUT ROWID;
CREATE INDEX file_xorbs_by_xorb ON file_xorbs (xorb);
CREATE TABLE objects (                       -- what a pointer names; its canonical Xet file
  sha256 BLOB PRIMARY KEY,
  size INTEGER NOT NULL,
  file BLOB NOT NULL REFERENCES files) STRICT, WITHOUT ROWID;
CREATE INDEX objects_by_file ON objects (file);
CREATE TABLE repo_objects (                  -- what a repository holds or is about to commit
  repo INTEGER NOT NULL REFERENCES repos ON DELETE CASCADE,
  sha256 BLOB NOT NULL REFERENCES objects,
  pushed_at INTEGER NOT NULL,
  committed INTEGER NOT NULL DEFAULT 0,      -- 0: uploaded, under lease only
  lease_until INTEGER NOT NULL,
  PRIMARY KEY (repo, sha256)) STRICT, WITHOUT ROWID;
CREATE INDEX repo_objects_by_object ON repo_objects (sha256);

-- people ----------------------------------------------------------------------------------------
CREATE TABLE likes (
  repo INTEGER NOT NULL REFERENCES repos ON DELETE CASCADE,
  user INTEGER NOT NULL REFERENCES accounts ON DELETE CASCADE,
  at INTEGER NOT NULL,
  PRIMARY KEY (repo, user)) STRICT, WITHOUT ROWID;
CREATE TABLE access_requests (
  repo INTEGER NOT NULL REFERENCES repos ON DELETE CASCADE,
  user INTEGER NOT NULL REFERENCES accounts ON DELETE CASCADE,
  status TEXT NOT NULL CHECK (status IN ('pending', 'accepted', 'rejected')),
  fields TEXT NOT NULL DEFAULT '{}',
  at INTEGER NOT NULL,
  PRIMARY KEY (repo, user)) STRICT, WITHOUT ROWID;
CREATE TABLE discussions (
  repo INTEGER NOT NULL REFERENCES repos ON DELETE CASCADE,
  num INTEGER NOT NULL,
  title TEXT NOT NULL,
  author TEXT NOT NULL,
  is_pull_request INTEGER NOT NULL,
  status TEXT NOT NULL CHECK (status IN ('draft', 'open', 'closed', 'merged')),
  base TEXT,                                 -- "refs/heads/main"
  merge_commit TEXT,
  created_at INTEGER NOT NULL,
  PRIMARY KEY (repo, num)) STRICT, WITHOUT ROWID;
CREATE TABLE discussion_events (
  id TEXT PRIMARY KEY,                       -- 24 hex digits
  repo INTEGER NOT NULL, num INTEGER NOT NULL, ordinal INTEGER NOT NULL,
  type TEXT NOT NULL,                        -- comment, status-change, commit, title-change
  author TEXT NOT NULL,
  data TEXT NOT NULL,                        -- JSON
  created_at INTEGER NOT NULL,
  FOREIGN KEY (repo, num) REFERENCES discussions ON DELETE CASCADE) STRICT, WITHOUT ROWID;
CREATE INDEX discussion_events_in_order ON discussion_events (repo, num, ordinal);
CREATE TABLE webhooks (
  id INTEGER PRIMARY KEY,
  owner INTEGER NOT NULL REFERENCES accounts ON DELETE CASCADE,
  repo INTEGER REFERENCES repos ON DELETE CASCADE,    -- none: every repository of the owner
  url TEXT NOT NULL,
  secret TEXT NOT NULL,
  events TEXT NOT NULL,                      -- JSON list: "repo.content", "repo.config", "discussion"
  active INTEGER NOT NULL DEFAULT 1) STRICT;
CREATE TABLE deliveries (
  id INTEGER PRIMARY KEY,
  webhook INTEGER NOT NULL REFERENCES webhooks ON DELETE CASCADE,
  event TEXT NOT NULL,
  payload TEXT NOT NULL,
  attempts INTEGER NOT NULL DEFAULT 0,
  next_at INTEGER NOT NULL,
  status TEXT NOT NULL DEFAULT 'waiting' CHECK (status IN ('waiting', 'done', 'failed')),
  last_error TEXT NOT NULL DEFAULT '') STRICT;
CREATE INDEX deliveries_due ON deliveries (status, next_at);

CREATE VIRTUAL TABLE repo_search USING fts5 (name, tags, tokenize = 'trigram');  -- rowid = repos.id
)sql",
                                                R"sql(
CREATE TABLE lfs_locks (
  id INTEGER PRIMARY KEY,
  repo INTEGER NOT NULL REFERENCES repos ON DELETE CASCADE,
  user INTEGER NOT NULL REFERENCES accounts ON DELETE CASCADE,
  path TEXT NOT NULL,
  locked_at INTEGER NOT NULL,
  UNIQUE (repo, path)) STRICT;
CREATE INDEX lfs_locks_by_user ON lfs_locks (user);
)sql",
                                                R"sql(
ALTER TABLE xorbs ADD COLUMN damaged INTEGER NOT NULL DEFAULT 0;  -- found by fsck; its chunks are stored again
CREATE INDEX damaged_xorbs ON xorbs (hash) WHERE damaged = 1;

-- Names of authors stay as they were; who may do what goes by number.
ALTER TABLE discussions ADD COLUMN author_id INTEGER REFERENCES accounts ON DELETE SET NULL;
ALTER TABLE discussion_events ADD COLUMN author_id INTEGER REFERENCES accounts ON DELETE SET NULL;
CREATE INDEX discussions_by_author ON discussions (author_id);
CREATE INDEX discussion_events_by_author ON discussion_events (author_id);
UPDATE discussions SET author_id = (SELECT id FROM accounts a WHERE a.kind = 'user'
  AND a.name = discussions.author AND a.created_at <= discussions.created_at);
UPDATE discussion_events SET author_id = (SELECT id FROM accounts a WHERE a.kind = 'user'
  AND a.name = discussion_events.author AND a.created_at <= discussion_events.created_at);

-- Those of one device login end together.
ALTER TABLE refresh_tokens ADD COLUMN login BLOB;
UPDATE refresh_tokens SET login = hash;
CREATE INDEX refresh_tokens_by_user ON refresh_tokens (user, expires_at);
CREATE INDEX refresh_tokens_by_token ON refresh_tokens (token);
CREATE INDEX refresh_tokens_by_login ON refresh_tokens (login);
)sql",
                                                R"sql(
-- The type is checked where repositories are made.
CREATE TABLE new_repos (
  id INTEGER PRIMARY KEY,
  uid TEXT NOT NULL UNIQUE,
  type TEXT NOT NULL,                        -- model, dataset, space, kernel
  owner INTEGER NOT NULL REFERENCES accounts,
  name TEXT NOT NULL COLLATE NOCASE,
  private INTEGER NOT NULL DEFAULT 0,
  gated TEXT CHECK (gated IN ('auto', 'manual')),
  disabled INTEGER NOT NULL DEFAULT 0,
  generation INTEGER NOT NULL DEFAULT 0,
  used_bytes INTEGER NOT NULL DEFAULT 0,
  downloads INTEGER NOT NULL DEFAULT 0,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  tags TEXT NOT NULL DEFAULT '[]',
  pipeline_tag TEXT,
  library_name TEXT,
  card TEXT,
  config TEXT,
  weights TEXT,
  parameters INTEGER,
  sdk TEXT,
  UNIQUE (type, owner, name)) STRICT;
INSERT INTO new_repos SELECT * FROM repos;
DROP TABLE repos;
ALTER TABLE new_repos RENAME TO repos;
CREATE INDEX repos_by_update ON repos (type, updated_at);
)sql",
                                                R"sql(
CREATE TABLE attachments (                   -- of discussions; who has the name may read
  name TEXT PRIMARY KEY,
  user INTEGER NOT NULL REFERENCES accounts ON DELETE CASCADE,
  blob TEXT NOT NULL,
  bytes INTEGER NOT NULL,
  created_at INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX attachments_by_user ON attachments (user);
CREATE INDEX attachments_by_blob ON attachments (blob);
CREATE TRIGGER attachment_dropped AFTER DELETE ON attachments BEGIN
  INSERT OR IGNORE INTO dropped_blobs VALUES (old.blob);
END;
)sql",
                                                R"sql(
CREATE TABLE xorb_uploaders (                -- whose clients remember a xorb and send it no second time
  xorb BLOB NOT NULL REFERENCES xorbs ON DELETE CASCADE,
  user INTEGER NOT NULL REFERENCES accounts ON DELETE CASCADE,
  remembered_until INTEGER NOT NULL,
  PRIMARY KEY (xorb, user)) STRICT, WITHOUT ROWID;
CREATE INDEX xorb_uploaders_by_user ON xorb_uploaders (user);
)sql"};
  return list;
}

}  // namespace pretrained::server
