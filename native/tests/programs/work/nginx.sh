# nginx with two workers under wrk: no answer may be wrong or missing, connections stay open over the cut.
set -eu
mkdir -p /tmp/www /tmp/nginx
seq 1 20000 >/tmp/www/numbers
cat >/tmp/nginx.conf <<'CONF'
worker_processes 2;
daemon off;
pid /tmp/nginx/pid;
error_log /tmp/nginx/error.log;
events { worker_connections 256; }
http {
    access_log /tmp/nginx/access.log;
    client_body_temp_path /tmp/nginx/a; proxy_temp_path /tmp/nginx/b; fastcgi_temp_path /tmp/nginx/c; uwsgi_temp_path /tmp/nginx/d; scgi_temp_path /tmp/nginx/e;
    server { listen 127.0.0.1:8080; root /tmp/www; keepalive_requests 1000000; gzip on; gzip_types *; }
}
CONF
nginx -c /tmp/nginx.conf -e /tmp/nginx/error.log &
for try in $(seq 1 200); do (exec 3<>/dev/tcp/127.0.0.1/8080) 2>/dev/null && break; sleep 0.05; done
for step in $(seq 1 6); do
    wrk -t 2 -c 30 -d 1s --timeout 60s -H 'Accept-Encoding: gzip' http://127.0.0.1:8080/numbers >/tmp/wrk.log
    if grep -E 'Socket errors|Non-2xx' /tmp/wrk.log; then exit 1; fi
    [ "$(awk '/requests in/ {print $1}' /tmp/wrk.log)" -gt 10 ]
    echo "step $step"
done
exec 3<>/dev/tcp/127.0.0.1/8080
printf 'GET /numbers HTTP/1.0\r\n\r\n' >&3
sum=$(sed '1,/^\r$/d' <&3 | md5sum | cut -d' ' -f1)
kill -QUIT "$(cat /tmp/nginx/pid)"
wait
[ "$sum" = "$(md5sum </tmp/www/numbers | cut -d' ' -f1)" ] && echo end
