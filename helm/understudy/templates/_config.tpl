{{/* understudy.yaml of each part. Written as values, never as text: what stands in a value cannot become a setting. */}}

{{/* The port that a pool listens on, or nothing. Takes the pool. */}}
{{- define "understudy.pool-port" -}}
{{- regexFind "[0-9]+$" (regexFind ":[0-9]+$" .listen) -}}
{{- end -}}

{{/* Takes (dict "root" $ "part" "proxy"|"control"|"sidecar"). */}}
{{- define "understudy.config" -}}
{{- $root := .root -}}
{{- $values := $root.Values -}}
{{- $pools := list -}}
{{- range $pool := $values.pools -}}
{{- $pool = deepCopy $pool -}}
{{- if and (eq $.part "sidecar") (eq $values.sidecar.listen "loopback") -}}
{{- $_ := set $pool "listen" (printf "127.0.0.1:%s" (include "understudy.pool-port" $pool)) -}}
{{- end -}}
{{- $pools = append $pools $pool -}}
{{- end -}}
{{- $user := dict "name" $values.admin.user "password_file" "/etc/understudy/token/token" -}}
{{- $tls := dict "certificate" "/etc/understudy/tls/tls.crt" "key" "/etc/understudy/tls/tls.key" -}}
{{- $config := dict
  "data_dir" "/var/lib/understudy"
  "admin" (dict "listen" (printf "0.0.0.0:%v" $values.admin.port) "users" (list $user) "tls" $tls)
  "http" (dict "listen" (printf "0.0.0.0:%v" $values.http.port))
  "pools" $pools -}}
{{- if $values.limits -}}{{- $_ := set $config "limits" $values.limits -}}{{- end -}}
{{- $_ := set $config "control" (include "understudy.control-config" . | fromJson) -}}
{{- if eq .part (include "understudy.snapshot-part" $root) -}}
{{- $_ := set $config "kubernetes" (include "understudy.kubernetes-config" $root | fromJson) -}}
{{- end -}}
{{- toYaml $config -}}
{{- end -}}

{{/* Proxies and sidecars register with control, which then drives them; both ways by TLS, with one login. */}}
{{- define "understudy.control-config" -}}
{{- $values := .root.Values -}}
{{- $name := include "understudy.fullname" .root -}}
{{- $namespace := .root.Release.Namespace -}}
{{- $control := dict
  "login" (dict "name" $values.admin.user "password_file" "/etc/understudy/token/token")
  "proxy_tls" (dict "ca" "/etc/understudy/tls/ca.crt" "server_name" $values.admin.tls.serverName) -}}
{{- if eq .part "control" -}}
{{- $announce := default (printf "%s-control-guard.%s.svc" $name $namespace) $values.control.guard.announce -}}
{{- $guard := dict "listen" (printf "0.0.0.0:%v" $values.control.guard.port) "announce" $announce -}}
{{- if $values.control.guard.tls.existingSecret -}}
{{- $_ := set $guard "tls" (dict "certificate" "/etc/understudy/guard/tls.crt" "key" "/etc/understudy/guard/tls.key") -}}
{{- end -}}
{{- $_ := set $control "guard" $guard -}}
{{- if $values.control.proxies -}}{{- $_ := set $control "proxies" $values.control.proxies -}}{{- end -}}
{{- if eq (include "understudy.snapshot-part" .root) "sidecar" -}}{{- $_ := set $control "snapshots" "agents" -}}{{- end -}}
{{- $control = mergeOverwrite $control (deepCopy $values.control.settings) -}}
{{- else if $values.control.enabled -}}
{{- $_ := set $control "address" (printf "rediss://%s-control.%s.svc:%v" $name $namespace $values.admin.port) -}}
{{- else if $values.control.address -}}
{{- $_ := set $control "address" $values.control.address -}}
{{- end -}}
{{- $control | toJson -}}
{{- end -}}

{{/* Of the Job that reads a snapshot back; nothing where there is none. */}}
{{- define "understudy.verify-image" -}}
{{- if .Values.snapshots.restore -}}
{{- default (include "understudy.image" .) .Values.snapshots.verify.image -}}
{{- end -}}
{{- end -}}

{{- define "understudy.kubernetes-config" -}}
{{- $snapshots := .Values.snapshots -}}
{{- $kubernetes := dict "level" $snapshots.level "namespace" (include "understudy.snapshot-namespaces" . | fromJsonArray | first) -}}
{{- if $snapshots.ownRecipes -}}{{- $_ := set $kubernetes "recipes_dir" "/etc/understudy/recipes" -}}{{- end -}}
{{- if $snapshots.params -}}{{- $_ := set $kubernetes "params" $snapshots.params -}}{{- end -}}
{{- if $snapshots.volumes -}}{{- $_ := set $kubernetes "volumes" $snapshots.volumes -}}{{- end -}}
{{- if $snapshots.restore -}}
{{- $job := $snapshots.verify -}}
{{- $verify := dict "image" (include "understudy.verify-image" .) "run_as_user" $job.runAsUser "deadline" $job.deadline -}}
{{- if $job.namespace -}}{{- $_ := set $verify "namespace" $job.namespace -}}{{- end -}}
{{- $secrets := default .Values.image.pullSecrets $job.pullSecrets -}}
{{- if $secrets -}}{{- $_ := set $verify "pull_secrets" $secrets -}}{{- end -}}
{{- if $job.serviceAccountName -}}{{- $_ := set $verify "service_account" $job.serviceAccountName -}}{{- end -}}
{{- if $job.resources -}}{{- $_ := set $verify "resources" $job.resources -}}{{- end -}}
{{- $_ := set $kubernetes "verify" $verify -}}
{{- end -}}
{{- $kubernetes | toJson -}}
{{- end -}}

{{/*
What must restart a Pod when it changes: everything but the servers' addresses. Where a shard is, the data_dir knows better,
and the file is corrected after each upgrade.
*/}}
{{- define "understudy.config-checksum" -}}
{{- $config := include "understudy.config" . | fromYaml -}}
{{- range $pool := $config.pools -}}
{{- range $shard := $pool.shards -}}
{{- $_ := unset $shard "primary" -}}
{{- end -}}
{{- end -}}
{{- $config | toJson | sha256sum -}}
{{- end -}}
