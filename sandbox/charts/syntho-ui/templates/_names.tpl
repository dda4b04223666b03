{{- define "ui.short" -}}
{{ .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{- define "ui.long" -}}
{{- $base := .Values.nameOverride | default .Chart.Name -}}
{{- $full := contains $base .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $base) -}}
{{ .Values.fullnameOverride | default $full | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{- define "ui.labels" -}}
helm.sh/chart: {{ print .Chart.Name "-" .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- range $key, $value := dict "name" (include "ui.short" .) "instance" .Release.Name "managed-by" .Release.Service }}
app.kubernetes.io/{{ $key }}: {{ $value }}
{{- end }}
app.kubernetes.io/version: {{ quote .Chart.AppVersion }}
{{- end -}}

{{/* The one address of the backend that the templates know; the ingress and the Service disagree about its port. */}}
{{- define "ui.backend.host" -}}
{{ .Values.backend.name }}.{{ .Release.Namespace }}.svc.cluster.local
{{- end -}}

{{/* Broker and result store of core, in the URL scheme without TLS that cannot be changed. */}}
{{- define "ui.core.broker" -}}
{{- $redis := .Values.core.redis -}}
redis://{{ $redis.host }}:{{ $redis.port }}/{{ $redis.db }}
{{- end -}}
