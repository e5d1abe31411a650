;; A component of the world `legation:task` for tests. What it does stands where BODY is, what lies in its memory where DATA is.
(component
  (import "legation:task/host@1.0.0" (instance $host
    (export "args" (func (result (list string))))
    (export "inputs" (func (result (list u64))))
    (export "read" (func (param "most" u32) (result (list u8))))
    (export "write" (func (param "bytes" (list u8))))
    (export "log" (func (param "text" string)))
    (export "now" (func (result u64)))
    (export "random" (func (param "count" u32) (result (list u8))))))
  (import "legation:task/delegation@1.0.0" (instance $delegation
    (type $a-cause (enum "not-allowed" "invalid" "too-many" "unanswered" "failed"))
    (export "cause" (type $cause (eq $a-cause)))
    (export "delegate" (func (param "module" string) (param "input" (list u8)) (param "options" string)
      (result (result (list u8) (error $cause)))))
    (export "start" (func (param "module" string) (param "input" (list u8)) (param "options" string)
      (result (result u32 (error $cause)))))
    (export "wait" (func (param "question" u32) (result (result (list u8) (error $cause)))))
    (export "forget" (func (param "question" u32)))
    (export "why" (func (result string)))))

  ;; What is allocated is never freed; it begins at 8192.
  (core module $libc
    (memory (export "memory") 1)
    (global $next (mut i32) (i32.const 8192))
    (func (export "realloc") (param $old i32) (param $size i32) (param $align i32) (param $new i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
      (global.set $next (i32.add (local.get $at) (local.get $new)))
      (block $fits
        (loop $grow
          (br_if $fits (i32.le_u (global.get $next) (i32.mul (memory.size) (i32.const 65536))))
          (drop (memory.grow (i32.const 1)))
          (br $grow)))
      (local.get $at)))
  (core instance $libc (instantiate $libc))

  (core func $args (canon lower (func $host "args") (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
  (core func $inputs (canon lower (func $host "inputs") (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
  (core func $read (canon lower (func $host "read") (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
  (core func $write (canon lower (func $host "write") (memory (core memory $libc "memory"))))
  (core func $log (canon lower (func $host "log") (memory (core memory $libc "memory"))))
  (core func $now (canon lower (func $host "now")))
  (core func $random (canon lower (func $host "random") (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
  (core func $delegate
    (canon lower (func $delegation "delegate") (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
  (core func $start (canon lower (func $delegation "start") (memory (core memory $libc "memory"))))
  (core func $wait (canon lower (func $delegation "wait") (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
  (core func $forget (canon lower (func $delegation "forget")))
  (core func $why (canon lower (func $delegation "why") (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))

  (core module $task
    (import "libc" "memory" (memory 1))
    (import "host" "args" (func $args (param i32)))
    (import "host" "inputs" (func $inputs (param i32)))
    (import "host" "read" (func $read (param i32 i32)))
    (import "host" "write" (func $write (param i32 i32)))
    (import "host" "log" (func $log (param i32 i32)))
    (import "host" "now" (func $now (result i64)))
    (import "host" "random" (func $random (param i32 i32)))
    (import "delegation" "delegate" (func $delegate (param i32 i32 i32 i32 i32 i32 i32)))
    (import "delegation" "start" (func $start (param i32 i32 i32 i32 i32 i32 i32)))
    (import "delegation" "wait" (func $wait (param i32 i32)))
    (import "delegation" "forget" (func $forget (param i32)))
    (import "delegation" "why" (func $why (param i32)))
    ;; 16 to 27 is where functions put what they give, 32 to 43 what `run` gives, 64 to 127 a digest, 128 an input, 160 options;
    ;; nothing lies from 2048 on.
    (data (i32.const 64) "abababababababababababababababababababababababababababababababab")
    (data (i32.const 128) "input!")
    DATA
    ;; Writes the list, or the text, that lies at 16 and the four bytes behind.
    (func $out (call $write (i32.load (i32.const 16)) (i32.load (i32.const 20))))
    ;; Writes the answer at 16, or the number of the cause as a digit and why.
    (func $told
      (if (i32.load8_u (i32.const 16))
        (then
          (i32.store8 (i32.const 2048) (i32.add (i32.const 48) (i32.load8_u (i32.const 20))))
          (call $write (i32.const 2048) (i32.const 1))
          (call $why (i32.const 16))
          (call $out))
        (else (call $write (i32.load (i32.const 20)) (i32.load (i32.const 24))))))
    ;; Begins a question, and gives its number.
    (func $ask (result i32)
      (call $start (i32.const 64) (i32.const 64) (i32.const 128) (i32.const 6) (i32.const 160) (i32.const OPTIONS)
        (i32.const 16))
      (if (i32.load8_u (i32.const 16)) (then (call $told)))
      (i32.load (i32.const 20)))
    (func (export "run") (result i32)
      (local $a i32) (local $b i32) (local $n i32)
      BODY
      (i32.const 32)))
  (core instance $task (instantiate $task
    (with "libc" (instance $libc))
    (with "host" (instance
      (export "args" (func $args)) (export "inputs" (func $inputs)) (export "read" (func $read))
      (export "write" (func $write)) (export "log" (func $log)) (export "now" (func $now))
      (export "random" (func $random))))
    (with "delegation" (instance
      (export "delegate" (func $delegate)) (export "start" (func $start)) (export "wait" (func $wait))
      (export "forget" (func $forget)) (export "why" (func $why))))))
  (func (export "run") (result (result (error string)))
    (canon lift (core func $task "run") (memory (core memory $libc "memory")))))
