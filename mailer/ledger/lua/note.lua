-- Note the message ids of a chunk that was settled before they were noted as they came.
-- KEYS: chunk
-- ARGV: key prefix of the index, its life (s), chunk id, packed: mark (7) and position (2) of each
-- include mailer/ledger/lua/lib/sent_ids.lua
note_ids(ARGV[1], ARGV[2], chunk, ARGV[3], ARGV[4], now_ms())
return 1
