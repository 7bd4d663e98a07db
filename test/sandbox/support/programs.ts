// What the program tests run, in the sandbox and under runc: each script must print the same bytes and end with the same
// status in both. /work is an empty directory of the run's own, /tmp a tmpfs; scripts print nothing that differs between
// two native runs (times, addresses, process numbers).

export interface ProgramCase {
  readonly name: string;
  readonly script: string;
  /** Seconds; the default is 120. */
  readonly timeout?: number;
  /** Takes minutes: run only with HEAVY=1 (npm run test:programs). */
  readonly heavy?: boolean;
  /** Runs as this user instead of root. */
  readonly user?: number;
}

const manyFiles = `
mkdir -p src && cd src
for i in $(seq 1 40); do
  printf '#include "all.h"\\nint f%d(int x) { int s = 0; for (int i = 0; i < x; i++) s += i * %d; return s; }\\n' $i $i > f$i.c
done
{ for i in $(seq 1 40); do echo "int f$i(int);"; done; } > all.h
{ echo '#include <stdio.h>'; echo '#include "all.h"'; echo 'int main(void) { long s = 0;';
  for i in $(seq 1 40); do echo "s += f$i($i);"; done; echo 'printf("%ld\\n", s); return 0; }'; } > main.c
{ printf 'OBJS ='; for i in $(seq 1 40); do printf ' f%d.o' $i; done; echo ' main.o';
  printf 'prog: $(OBJS)\\n\\tgcc -o prog $(OBJS)\\n%%.o: %%.c all.h\\n\\tgcc -O1 -c -o $@ $<\\nclean:\\n\\trm -f *.o prog\\n'; } > Makefile
`;

export const programCases: readonly ProgramCase[] = [
  { name: 'busybox prints', script: 'busybox echo hello; busybox uname -s; busybox id -u' },
  {
    name: 'bash with coreutils: pipes, globs, here-documents, arithmetic, job control, traps',
    script: `set -u; cd /work
seq 1 1000 | sort -rn | head -5 | tr '\\n' ' '; echo
for i in 1 2 3; do echo "line $i" > f$i; done; cat f?; ls -1 | wc -l
cat <<END | sed 's/a/b/g'
banana
END
echo $((7*6)) $(echo nested $(echo deep))
trap 'echo trapped' USR1; kill -USR1 $$; sleep 0.05 & wait $!; echo "wait $?"
( exit 3 ); echo $?; false || echo or; set -o pipefail; false | true; echo $?
mkfifo p; (echo through-fifo > p &) ; cat p; ln -s f1 l; readlink l; stat -c '%n %s %a %F' f1 l; rm -r /work/*; ls -A | wc -l
printf '%s\\n' {a..e}{1..3} | paste -sd,; date -u -d @86400 +%F; expr 3 + 4; od -An -tx1 <<< abc; md5sum < /bin/true | wc -c`,
  },
  {
    name: 'coreutils on trees: cp -a, find, chmod, touch, du, sort, join, comm, split, tee, xargs',
    script: `cd /work; mkdir -p a/b/c; for i in $(seq 50); do echo $i > a/b/c/$i; done
cp -a a z; diff -r a z && echo same; find z -type f | sort | md5sum; chmod -R u=rwX,go= z; find z -perm 700 | wc -l
touch -d 2001-02-03T04:05:06Z z/b; stat -c %Y z/b; find a -name '1*' | sort | xargs cat | sort -n | paste -sd+ | tee sum | wc -c
split -l 7 -d <(seq 100) part; ls part* | wc -l; comm -12 <(seq 1 10 | sort) <(seq 5 15 | sort) | tr '\\n' ,; echo
install -m 640 -D a/b/c/1 q/r/s; stat -c %a q/r/s; mv q/r/s q/moved; rmdir q/r; ls q; truncate -s 1M big; stat -c '%s' big; dd if=/dev/zero of=big bs=4k count=10 conv=notrunc 2>/dev/null; sha256sum big; tac sum; wc sum; nl a/b/c/7; realpath -m q/../a`,
  },
  {
    name: 'configure and make of a C project',
    timeout: 300,
    script: `cd /work; ${manyFiles}
cat > configure <<'CONF'
#!/bin/sh
for h in stdio.h stdlib.h unistd.h sys/mman.h pthread.h nonexistent.h; do
  printf 'checking for %s... ' $h
  echo "#include <$h>" > conftest.c
  if gcc -c conftest.c -o conftest.o 2>/dev/null; then echo yes; else echo no; fi
done
printf 'checking whether the compiler works... '
echo 'int main(void){return 0;}' > conftest.c && gcc conftest.c -o conftest && ./conftest && echo yes
rm -f conftest*
CONF
chmod +x configure; ./configure; make -j2 -s && ./prog; make clean; ls | sort | head -3; gcc -O2 -Wall -x c - -o hello <<< '#include <stdio.h>
#include <pthread.h>
static void *run(void *p) { *(int *)p += 1; return p; }
int main(void) { int n = 41; pthread_t t; pthread_create(&t, 0, run, &n); pthread_join(t, 0); printf("%d\\n", n); }'; ./hello`,
  },
  {
    name: 'python3: data, files, subprocesses, threads, sqlite, hashing',
    script: `cd /work; python3 - <<'END'
import os, sys, json, subprocess, threading, hashlib, sqlite3, tempfile, struct, mmap, socket, select, signal, time
print(sys.version_info[:2], json.dumps({'a': [1, 2, {'b': None}]}, sort_keys=True))
print(subprocess.run(['sh', '-c', 'echo out; exit 3'], capture_output=True))
results = []
def work(n): results.append(sum(range(n)))
ts = [threading.Thread(target=work, args=(i * 1000,)) for i in range(8)]
[t.start() for t in ts]; [t.join() for t in ts]; print(sorted(results))
db = sqlite3.connect('t.db'); db.execute('create table t(a, b)'); db.executemany('insert into t values(?, ?)', [(i, str(i)) for i in range(500)]); db.commit()
print(db.execute('select sum(a), count(*) from t').fetchone())
print(hashlib.sha256(open('/bin/true', 'rb').read()).hexdigest()[:8] != '')
with open('m', 'w+b') as f:
    f.truncate(8192); m = mmap.mmap(f.fileno(), 8192); m[4096:4101] = b'hello'; m.flush(); f.seek(4096); print(f.read(5))
a, b = socket.socketpair(); a.sendall(b'x' * 100000 if False else b'ping'); print(b.recv(10)); print(select.select([b], [a], [], 0)[1] == [a])
r, w = os.pipe(); pid = os.fork()
if pid == 0: os.write(w, b'child'); os._exit(7)
print(os.read(r, 10), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
got = []; signal.signal(signal.SIGALRM, lambda *a: got.append(a[0])); signal.setitimer(signal.ITIMER_REAL, 0.02); signal.pause(); print(got)
print(os.listdir('/proc/self/fd') != [], open('/proc/self/comm').read().strip(), os.cpu_count() > 0)
try: open('/nonexistent/x')
except OSError as e: print(e)
print(sorted(os.environ)[:2])
END`,
  },
  {
    name: "python3's own tests of the language and data types",
    timeout: 400,
    script: `cd /tmp; python3 -m test -q test_grammar test_int test_float test_bytes test_unicode test_dict test_list test_set test_json test_struct test_re test_hashlib test_zlib test_collections test_itertools test_functools 2>&1 | grep -v 'Total duration\\|min\\|sec\\|^$\\|load avg\\|Run tests' | tail -5`,
  },
  {
    name: "python3's own tests of the operating system's calls",
    timeout: 600,
    heavy: true,
    script: `cd /tmp; for t in test_os test_posix test_subprocess test_threading test_select test_epoll test_poll test_mmap test_pty test_fork1 test_wait4 test_tempfile test_shutil test_glob test_pathlib test_time test_thread test_queue test_io test_fileio test_file test_memoryio test_posixpath test_stat test_selectors test_resource; do if timeout 120 python3 -m test -q $t > out 2>&1; then echo "$t ok"; else echo "$t failed"; fi; done`,
  },
  {
    name: 'perl',
    script: `cd /work; perl -e 'use POSIX; use File::Find; use IO::Handle; print join(",", map { $_ * 2 } 1..5), "\\n"; open(F, ">", "x") or die; print F "a\\nb\\n"; close F; open(F, "x"); @l = <F>; print scalar(@l), "\\n"; my $p = fork; if (!$p) { exit 5 } waitpid($p, 0); print $? >> 8, "\\n"; print \`echo hi\`; pipe(R, W); W->autoflush; print W "z\\n"; print scalar <R>; printf "%s\\n", POSIX::strftime("%Y", gmtime(0)); find(sub { print "$_\\n" if /^x/ }, "."); $SIG{ALRM} = sub { print "alarm\\n"; exit 0 }; alarm 1; sleep 5'`,
  },
  {
    name: 'git: init, commit, branch, merge, clone of a repository with 1,000 files',
    timeout: 240,
    script: `cd /work; export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b GIT_AUTHOR_DATE='2020-01-01T00:00:00Z' GIT_COMMITTER_DATE='2020-01-01T00:00:00Z' HOME=/tmp
git init -q -b main r; cd r; for d in $(seq 20); do mkdir d$d; for f in $(seq 50); do echo "$d $f" > d$d/$f; done; done
git add . && git commit -qm one && git rev-parse HEAD; git checkout -qb side; echo x > side; git add side; git commit -qm two; git checkout -q main; echo y > main; git add main; git commit -qm three; git merge -q -m merged side; git log --oneline --graph
cd ..; git clone -q r c; cd c; git status --short | wc -l; git log --oneline | wc -l; find . -path ./.git -prune -o -type f -print | wc -l; git fsck 2>&1; git gc -q; git count-objects -v | grep in-pack; git diff HEAD~1 --stat | tail -1; git blame main | cut -c1-8`,
  },
  {
    name: 'sqlite3: tables, indices, transactions, write-ahead log',
    script: `cd /work; sqlite3 t.db "create table t(id integer primary key, v text); with recursive c(x) as (select 1 union all select x+1 from c where x<5000) insert into t select x, hex(x) from c; create index i on t(v); select count(*), sum(id) from t;"
sqlite3 t.db "pragma journal_mode=wal; begin; update t set v = v || 'x' where id % 3 = 0; commit; select count(*) from t where v like '%x'; pragma integrity_check;"; ls; sqlite3 t.db .schema; sqlite3 t.db 'begin; delete from t; rollback; select max(id) from t; vacuum; pragma page_count;'`,
  },
  {
    name: 'tar, gzip, bzip2, xz of trees',
    timeout: 240,
    script: `cd /work; mkdir t; cp -a /usr/include/linux t/; ln t/linux/fs.h t/hard; ln -s linux/fs.h t/soft; mkfifo t/fifo
tar --sort=name --mtime=@0 --owner=0 --group=0 -cf a.tar t && sha256sum a.tar; for z in gzip bzip2 xz; do $z -k -n a.tar 2>/dev/null || $z -k a.tar; done; ls a.tar*; for e in gz bz2 xz; do mkdir x$e; tar -xf a.tar.$e -C x$e; diff -r --no-dereference t/linux x$e/t/linux && echo $e same; done; stat -c '%h %F' xgz/t/hard xgz/t/soft xgz/t/fifo; tar -tvf a.tar.xz --full-time | wc -l`,
  },
  {
    name: 'openssl: keys, digests, certificates, encryption',
    script: `cd /work; openssl version | cut -d' ' -f1; echo -n abc | openssl dgst -sha256; openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out k 2>/dev/null; openssl req -x509 -key k -out c -days 10 -subj /CN=x 2>/dev/null; openssl verify -CAfile c c; head -c 100000 /dev/zero | openssl enc -aes-256-cbc -pbkdf2 -pass pass:x -S 0011223344556677 | sha256sum; openssl rand 16 | wc -c; openssl s_server -accept 127.0.0.1:4433 -key k -cert c -www -quiet & for i in $(seq 100); do (sleep 0.3; echo Q) | openssl s_client -connect 127.0.0.1:4433 -CAfile c 2>/dev/null | grep -q 'Verify return code: 0' && echo verified && break; sleep 0.1; done; kill $!; wait 2>/dev/null`,
  },
  {
    name: 'redis-server with its benchmark over a Unix socket',
    timeout: 180,
    script: `cd /work; redis-server --port 0 --unixsocket /work/s --save '' --daemonize no --dir /work > log 2>&1 & for i in $(seq 100); do [ -S s ] && redis-cli -s s ping >/dev/null 2>&1 && break; sleep 0.1; done
redis-cli -s s set a 1; redis-cli -s s incr a; redis-cli -s s rpush l x y z; redis-cli -s s lrange l 0 -1; redis-benchmark -s s -n 5000 -c 10 -q -t set,get,incr,lpush > bench 2>&1; tr '\\r' '\\n' < bench | grep -c 'requests per second'; redis-cli -s s save; ls dump.rdb; redis-cli -s s shutdown nosave; wait; echo done`,
  },
  {
    name: 'nginx on loopback with a client in the same sandbox',
    timeout: 120,
    script: `cd /work; mkdir -p html logs /tmp/n; head -c 300000 /dev/zero | tr '\\0' x > html/big; echo hello > html/index.html; chmod -R a+rX /work
cat > n.conf <<END
worker_processes 2; pid /tmp/n/pid; error_log /tmp/n/err; daemon off; user root;
events { worker_connections 64; }
http { access_log off; client_body_temp_path /tmp/n/a; proxy_temp_path /tmp/n/b; fastcgi_temp_path /tmp/n/c; uwsgi_temp_path /tmp/n/d; scgi_temp_path /tmp/n/e; sendfile on; server { listen 127.0.0.1:8080; listen unix:/tmp/n/sock; root /work/html; } }
END
nginx -c /work/n.conf -p /work & N=$!; for i in $(seq 100); do curl -sf http://127.0.0.1:8080/ && break; sleep 0.1; done; curl -s http://127.0.0.1:8080/big | sha256sum; curl -s -o /dev/null -w '%{http_code}\\n' http://127.0.0.1:8080/none; curl -s --unix-socket /tmp/n/sock http://x/; for i in $(seq 30); do curl -s http://127.0.0.1:8080/ & done | sort | uniq -c; kill -QUIT $N; wait $N; echo $?`,
  },
  {
    name: 'PostgreSQL: initdb and a pgbench run',
    timeout: 400,
    script: `export PATH=$PATH:/usr/lib/postgresql/15/bin; mkdir -p /work/d /tmp/run; chown postgres /work/d /tmp/run; chmod 700 /work/d; cd /tmp
run() { setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; }
run initdb -D /work/d -A trust --locale=C.UTF-8 -E UTF8 > log 2>&1; echo "initdb $?"; run pg_ctl -D /work/d -o "-k /tmp/run -c listen_addresses=''" -w -l /tmp/run/l start > /dev/null; echo "start $?"
run psql -h /tmp/run -Atc 'create table t as select g, md5(g::text) m from generate_series(1, 10000) g; select count(*), min(m), max(m) from t' postgres; run pgbench -h /tmp/run -q -i -s 1 postgres > /dev/null 2>&1; echo "init $?"; run pgbench -h /tmp/run -c 4 -j 2 -t 50 postgres 2>/dev/null | grep 'actually processed'; run psql -h /tmp/run -Atc 'select sum(bbalance) = sum(delta) from pgbench_branches, (select sum(delta) delta from pgbench_history) h' postgres; run pg_ctl -D /work/d -m fast -w stop > /dev/null; echo "stop $?"`,
  },
  {
    name: "busybox's own applets",
    script: `cd /work; B=/bin/busybox; for a in ash awk basename cat chmod cksum cmp cut date dd df diff dirname du env expr find fold grep gunzip gzip head hexdump id install ln ls md5sum mkdir mktemp mv nl od paste printf pwd readlink realpath rev rm sed seq sha1sum sleep sort split stat strings tail tar tee test touch tr true uniq unlink uudecode vi wc which xargs yes; do $B --list | grep -qx $a || echo "no $a"; done
$B seq 20 | $B awk '{s+=$1} END {print s}'; echo b a c | $B tr ' ' '\\n' | $B sort | $B xargs; $B dd if=/dev/zero bs=1k count=5 2>/dev/null | $B wc -c; $B ash -c 'for i in 1 2 3; do echo $i; done | while read x; do echo "<$x>"; done'; echo hi | $B gzip | $B gunzip; $B tar -cf t.tar -C / etc/passwd && $B tar -tf t.tar; $B find /etc -name passwd; $B stat -c %a /tmp; $B printf '%05d\\n' 42; $B timeout 1 $B sleep 5; echo $?; ($B yes | $B head -2); $B ps | $B wc -l | $B grep -c .; $B df /tmp | $B tail -1 | $B awk '{print $6}'; $B mount | $B grep -c ' /proc '; $B cat /proc/mounts | $B grep -c tmpfs > /dev/null; echo ok`,
  },
  {
    name: 'strace and gdb',
    timeout: 120,
    script: `cd /work; strace -f -o log sh -c 'echo a; /bin/true'; grep -c execve log; grep -o 'exited with 0' log | sort -u; strace -e trace=openat,write -e inject=write:error=ENOSPC:when=1 echo x 2>&1 | tail -1; echo 'int g; int f(int x) { g = x; return x * 2; } int main(void) { return f(21); }' > p.c; gcc -g -O0 p.c -o p; gdb -q -batch -ex 'break f' -ex run -ex 'print x' -ex finish -ex 'print g' -ex kill p 2>&1 | grep -v '^\\[\\|debuginfod\\|^$\\|warning\\|Using host\\|0x'`,
  },
  {
    name: 'an unprivileged user',
    user: 1000,
    script: `id -u; touch /etc/x 2>&1; cat /etc/shadow 2>&1; chown root /tmp 2>&1; kill -0 1; echo $?; mkdir /tmp/mine && touch /tmp/mine/f && ls /tmp/mine; ping -c1 127.0.0.1 2>/dev/null; mount -t tmpfs x /tmp 2>&1 | cut -c1-20; ulimit -n; umask; nice -n -5 true 2>&1`,
  },
];
