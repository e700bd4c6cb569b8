{{/*
What the schema cannot say: each problem names the value and what to write instead. Included once, by config.yaml.
*/}}
{{- define "understudy.check" -}}
{{- $problems := list -}}
{{- if not .Values.pools -}}
{{- $problems = append $problems "pools: name at least one, such as {name: sessions, listen: \"0.0.0.0:6379\", shards: [{name: s1, primary: \"redis://redis-s1:6379\"}]}" -}}
{{- end -}}
{{- $ports := dict -}}
{{- range $pool := .Values.pools -}}
{{- $port := include "understudy.pool-port" $pool -}}
{{- if not $port -}}
{{- $problems = append $problems (printf "pools: %s listens on %q, which has no port; write 0.0.0.0:PORT" $pool.name $pool.listen) -}}
{{- else if hasKey $ports $port -}}
{{- $problems = append $problems (printf "pools: %s and %s both listen on port %s" (get $ports $port) $pool.name $port) -}}
{{- else if has $port (list (toString $.Values.admin.port) (toString $.Values.http.port)) -}}
{{- $problems = append $problems (printf "pools: %s listens on %s, which is the port of admin or http" $pool.name $port) -}}
{{- end -}}
{{- if $port -}}{{- $_ := set $ports $port $pool.name -}}{{- end -}}
{{- if and (or $.Values.proxy.enabled (and $.Values.sidecar.enabled (eq $.Values.sidecar.listen "pod"))) (regexMatch "^(127\\.|localhost:|\\[::1\\])" $pool.listen) -}}
{{- $problems = append $problems (printf "pools: %s listens on %s, which nobody outside the Pod reaches; write 0.0.0.0:%s" $pool.name $pool.listen $port) -}}
{{- end -}}
{{- end -}}
{{- if not (or .Values.proxy.enabled .Values.sidecar.enabled) -}}
{{- $problems = append $problems "proxy.enabled and sidecar.enabled are both false: nothing would serve" -}}
{{- end -}}
{{- if and .Values.control.enabled .Values.control.address -}}
{{- $problems = append $problems "control.address: it names a control elsewhere; set control.enabled=false, or leave it out" -}}
{{- end -}}
{{- if and .Values.proxy.autoscaling.enabled (gt (int .Values.proxy.autoscaling.minReplicas) (int .Values.proxy.autoscaling.maxReplicas)) -}}
{{- $problems = append $problems "proxy.autoscaling: minReplicas is larger than maxReplicas" -}}
{{- end -}}
{{- if lt (int .Values.proxy.drain.maxSeconds) (add 10 .Values.proxy.drain.waitSeconds | int) -}}
{{- $problems = append $problems "proxy.drain.maxSeconds: clients are given 10 s after waitSeconds; make it at least waitSeconds + 10" -}}
{{- end -}}
{{- if and (eq .Values.snapshots.by "agents") (not .Values.sidecar.enabled) -}}
{{- $problems = append $problems "snapshots.by: agents are the sidecars; set sidecar.enabled=true, or snapshots.by=here" -}}
{{- end -}}
{{- if and (eq (include "understudy.snapshot-part" .) "control") (not .Values.control.enabled) -}}
{{- $problems = append $problems "snapshots.recipes: nobody would take them; set control.enabled=true, or snapshots.by=agents" -}}
{{- end -}}
{{- $known := .Files.Get "files/recipes-rbac.yaml" | fromYaml -}}
{{- range $recipe := .Values.snapshots.recipes -}}
{{- if not (hasKey $known $recipe) -}}
{{- $problems = append $problems (printf "snapshots.recipes: no recipe %q here (%s); your own belong in snapshots.ownRecipes with snapshots.ownRules" $recipe (keys $known | sortAlpha | join ", ")) -}}
{{- end -}}
{{- range $rule := default list (get $known $recipe) -}}
{{- if and $rule.param (not $rule.namespace) (not (dig $recipe $rule.param "" $.Values.snapshots.params)) -}}
{{- $problems = append $problems (printf "snapshots.params.%s.%s: say in which namespace it is" $recipe $rule.param) -}}
{{- end -}}
{{- if and $rule.names (not (dig $recipe $rule.names "" $.Values.snapshots.params)) -}}
{{- $problems = append $problems (printf "snapshots.params.%s.%s: name the one of %s that may be read" $recipe $rule.names (first $rule.resources)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if has .Values.snapshots.verify.namespace (include "understudy.snapshot-namespaces" . | fromJsonArray) -}}
{{- $problems = append $problems (printf "snapshots.verify.namespace: %s is where servers are; name one that is there for reading back alone" .Values.snapshots.verify.namespace) -}}
{{- end -}}
{{- range $name := .Values.control.settings | keys -}}
{{- if has $name (list "proxies" "login" "guard" "proxy_tls" "snapshots" "address" "announce") -}}
{{- $problems = append $problems (printf "control.settings: %s is written by the chart" $name) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.sidecar.enabled (not (semverCompare ">=1.29.0-0" (include "understudy.kube-version" .))) -}}
{{- $problems = append $problems (printf "sidecar.enabled: this cluster is Kubernetes %s; containers that start before and end after the application need 1.29 or later" (include "understudy.kube-version" .)) -}}
{{- end -}}
{{- if and (eq .Values.snapshots.admissionPolicy.enabled "true") (not (semverCompare ">=1.30.0-0" (include "understudy.kube-version" .))) -}}
{{- $problems = append $problems (printf "snapshots.admissionPolicy.enabled: this cluster is Kubernetes %s; ValidatingAdmissionPolicy needs 1.30 or later" (include "understudy.kube-version" .)) -}}
{{- end -}}
{{- $problems = uniq $problems -}}
{{- if $problems -}}
{{- fail (printf "\n\n  %s\n" (join "\n  " $problems)) -}}
{{- end -}}
{{- end -}}
